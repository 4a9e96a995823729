/* The host's allocator, threads and floating-point state: host MODEL_DIR. Prints allocations, how many more were
 * not given back after the second round than after the first, pieces of work, 1 where refused memory is a status, and how many
 * bytes more a model keeps with its pool of freed buffers than without one. */
#define _POSIX_C_SOURCE 200809L
#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <triplet.h>

enum { WIDTH = 40, HEIGHT = 28, LARGE = 2048 };

static atomic_long allocations, released, pieces, held;
static atomic_int refuse_large;

static void check(triplet_status status, const char *what) {
    if (status != TRIPLET_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, triplet_status_name(status), triplet_last_error());
        exit(1);
    }
}

static void *allocate(void *context, size_t size, size_t alignment) {
    void *memory = NULL;
    if (context != &allocations || (refuse_large && size >= LARGE))
        return NULL;
    allocations++;
    held += (long)size;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void release(void *context, void *memory, size_t size, size_t alignment) {
    (void)context, (void)alignment;
    released++;
    held -= (long)size;
    free(memory);
}

struct share {
    triplet_work_fn work;
    void *argument;
    size_t first, count;
};

static void *do_share(void *argument) {
    const struct share *share = argument;
    size_t i;
    for (i = share->first; i < share->count; i += 2, pieces++)
        share->work(share->argument, i);
    return NULL;
}

static void parallel_for(void *context, size_t count, triplet_work_fn work, void *argument) {
    struct share first = {work, argument, 0, count}, second = {work, argument, 1, count};
    pthread_t thread;
    if (context != &pieces || fegetround() != FE_DOWNWARD)
        exit(3);
    if (pthread_create(&thread, NULL, do_share, &second) != 0)
        exit(4);
    do_share(&first);
    pthread_join(thread, NULL);
}

static char *answer(const char *dir, const triplet_model_options *options, int *refused, long *kept) {
    static unsigned char pixels[WIDTH * HEIGHT * 3];
    triplet_model *model;
    triplet_session *session;
    triplet_image *image;
    triplet_reply *reply;
    triplet_image_view view;
    triplet_ask_options ask;
    const char *json;
    char *copy;
    size_t i, length;
    for (i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7 % 251);
    check(triplet_model_open(dir, options, &model), "open");
    check(triplet_session_create(model, &session), "session");
    check(triplet_image_view_init(&view, sizeof view), "view");
    view.pixels = pixels;
    view.size = sizeof pixels;
    view.width = WIDTH;
    view.height = HEIGHT;
    check(triplet_image_create(model, &view, &image), "image");
    check(triplet_ask_options_init(&ask, sizeof ask), "options");
    ask.task = TRIPLET_TASK_DEPTH;
    ask.question = "How far away is everything?";
    check(triplet_session_ask(session, image, &ask, &reply), "ask");
    check(triplet_reply_get_json(reply, &json, &length), "json");
    copy = malloc(length + 1);
    if (!copy)
        exit(1);
    memcpy(copy, json, length + 1);
    check(triplet_reply_destroy(&reply), "destroy");
    check(triplet_image_destroy(&image), "destroy");
    check(triplet_session_destroy(&session), "destroy");
    if (kept)
        *kept = held;
    if (refused) {
        refuse_large = 1;
        *refused = triplet_session_create(model, &session) == TRIPLET_OUT_OF_MEMORY && !session;
        refuse_large = 0;
    }
    check(triplet_model_destroy(&model), "destroy");
    return copy;
}

int main(int count, char **words) {
    const triplet_allocator allocator = {allocate, release, &allocations};
    triplet_model_options options;
    char *usual, *rounded, *other;
    long left, kept, kept_without, kept_before;
    int refused = 0;
    if (count != 2)
        return 2;
    check(triplet_set_allocator(&allocator), "allocator");
    check(triplet_model_options_init(&options, sizeof options), "options");
    options.threads = 1;
    usual = answer(words[1], &options, NULL, &kept);
    left = allocations - released;
    options.pool_size = 0;
    other = answer(words[1], &options, NULL, &kept_without);
    if (strcmp(usual, other) != 0)
        return 8;
    free(other);
    /* A program of before the field was there has the pool. */
    options.struct_size = offsetof(triplet_model_options, pool_size);
    other = answer(words[1], &options, NULL, &kept_before);
    if (strcmp(usual, other) != 0 || kept_before < kept - 4096)
        return 9;
    free(other);
    check(triplet_model_options_init(&options, sizeof options), "options");
    if (triplet_set_allocator(&allocator) != TRIPLET_BUSY)
        return 5;
    /* The same on the host's threads while the host rounds down; without the pool, whose memory cannot be refused. */
    options.pool_size = 0;
    options.threads = 2;
    options.parallel_for = parallel_for;
    options.parallel_context = &pieces;
    fesetround(FE_DOWNWARD);
    rounded = answer(words[1], &options, &refused, NULL);
    if (fegetround() != FE_DOWNWARD)
        return 6;
    fesetround(FE_TONEAREST);
    if (strcmp(usual, rounded) != 0) {
        fprintf(stderr, "%s\n%s\n", usual, rounded);
        return 7;
    }
    free(usual);
    free(rounded);
    printf("%ld %ld %ld %d %ld\n", allocations, allocations - released - left, pieces, refused, kept - kept_without);
    return 0;
}
