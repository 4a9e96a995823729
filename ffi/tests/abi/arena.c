/* Memory of the caller's: its size is asked for before the model is loaded, it suffices, and 64 bytes less do not.
 * Argument: a model directory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "triplet.h"

enum { WIDTH = 56, HEIGHT = 40, POSITIONS = 256, ANSWER = 60 };

static void check(triplet_status status, const char *what) {
    if (status != TRIPLET_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, triplet_status_name(status), triplet_last_error());
        exit(1);
    }
}

static void expect(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s; last message: %s\n", what, triplet_last_error());
        exit(2);
    }
}

/* `size` bytes that begin where they must. */
static void *lend(size_t size) {
    void *memory = aligned_alloc(TRIPLET_MEMORY_ALIGNMENT, size);
    if (memory == NULL)
        exit(3);
    memset(memory, 0xa5, size);
    return memory;
}

/* The answer to one question as JSON, to free. */
static char *ask(triplet_session *session, const triplet_image *image) {
    triplet_ask_options options;
    triplet_reply *reply;
    const char *json;
    char *copy;
    size_t length;
    check(triplet_ask_options_init(&options, sizeof options), "options");
    options.task = TRIPLET_TASK_DEPTH;
    options.question = "How far away is everything?";
    options.max_new_tokens = ANSWER;
    check(triplet_session_ask(session, image, &options, &reply), "ask");
    check(triplet_reply_get_json(reply, &json, &length), "json");
    copy = malloc(length + 1);
    if (copy == NULL)
        exit(3);
    memcpy(copy, json, length + 1);
    check(triplet_reply_destroy(&reply), "destroy");
    return copy;
}

int main(int count, char **words) {
    static unsigned char pixels[WIDTH * HEIGHT * 3];
    triplet_model_options model_options;
    triplet_memory_bounds bounds;
    triplet_memory before, after;
    triplet_model *model;
    triplet_image_view view;
    triplet_image *image, *refused;
    triplet_session_options options;
    triplet_session *session, *other;
    void *image_memory, *session_memory;
    char *usual, *lent;
    size_t i;
    if (count != 2)
        return 4;
    for (i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7 % 251);

    /* What it will take, before it is loaded and after. */
    check(triplet_model_options_init(&model_options, sizeof model_options), "options");
    model_options.threads = 2;
    check(triplet_memory_bounds_init(&bounds, sizeof bounds), "bounds");
    bounds.width = WIDTH;
    bounds.height = HEIGHT;
    bounds.positions = POSITIONS;
    before.struct_size = sizeof before;
    after.struct_size = sizeof after;
    check(triplet_memory_query(words[1], &model_options, &bounds, &before), "query");
    check(triplet_model_open(words[1], &model_options, &model), "open");
    check(triplet_model_get_memory(model, &bounds, &after), "memory");
    expect(memcmp(&before, &after, sizeof before) == 0, "the model takes what was foretold");
    expect(before.map == WIDTH * HEIGHT * sizeof(float), "a map has a float for each pixel");
    expect(before.image % TRIPLET_MEMORY_ALIGNMENT == 0 && before.session % TRIPLET_MEMORY_ALIGNMENT == 0, "sizes");

    /* The answer without. */
    check(triplet_image_view_init(&view, sizeof view), "view");
    view.pixels = pixels;
    view.size = sizeof pixels;
    view.width = WIDTH;
    view.height = HEIGHT;
    check(triplet_image_create(model, &view, &image), "image");
    check(triplet_session_options_init(&options, sizeof options), "options");
    options.positions = POSITIONS;
    check(triplet_session_create_with(model, &options, &session), "session");
    usual = ask(session, image);
    check(triplet_session_destroy(&session), "destroy");
    check(triplet_image_destroy(&image), "destroy");

    /* The same in memory that is lent. */
    image_memory = lend(before.image);
    session_memory = lend(before.session);
    view.memory = image_memory;
    view.memory_size = before.image;
    check(triplet_image_create(model, &view, &image), "image in memory that is lent");
    options.memory = session_memory;
    options.memory_size = before.session;
    check(triplet_session_create_with(model, &options, &session), "session in memory that is lent");
    for (i = 0; i < 3; i++) {
        lent = ask(session, image);
        expect(strcmp(usual, lent) == 0, "the answer is the same");
        free(lent);
    }

    /* Memory that is lent twice, begins at odd places or is too small is refused, and said so. */
    expect(triplet_session_create_with(model, &options, &other) == TRIPLET_INVALID_ARGUMENT && other == NULL &&
               strstr(triplet_last_error(), "memory is lent") != NULL,
           "memory is lent once");
    options.memory = (unsigned char *)session_memory + 8;
    expect(triplet_session_create_with(model, &options, &other) == TRIPLET_INVALID_ARGUMENT &&
               strstr(triplet_last_error(), "multiple of 64") != NULL,
           "memory begins at a multiple of 64 bytes");
    check(triplet_session_destroy(&session), "destroy");
    check(triplet_image_destroy(&image), "destroy");
    view.memory_size = before.image - TRIPLET_MEMORY_ALIGNMENT;
    expect(triplet_image_create(model, &view, &refused) == TRIPLET_OUT_OF_MEMORY && refused == NULL &&
               strstr(triplet_last_error(), " are left") != NULL,
           "64 bytes less are too few for the image");
    options.memory = session_memory;
    options.memory_size = 4096;
    expect(triplet_session_create_with(model, &options, &other) == TRIPLET_OUT_OF_MEMORY && other == NULL, "4096 bytes");

    /* What is given back can be lent again. */
    view.memory_size = before.image;
    options.memory_size = before.session;
    check(triplet_image_create(model, &view, &image), "image again");
    check(triplet_session_create_with(model, &options, &session), "session again");
    lent = ask(session, image);
    expect(strcmp(usual, lent) == 0, "the answer is the same again");
    check(triplet_session_destroy(&session), "destroy");
    check(triplet_image_destroy(&image), "destroy");
    check(triplet_model_destroy(&model), "destroy");
    expect(triplet_live_handles() == 0, "no handle is left");
    printf("weights %zu image %zu kept %zu session %zu kv_cache %zu\n", before.weights, before.image, before.image_kept,
           before.session, before.kv_cache);
    free(usual);
    free(lent);
    free(image_memory);
    free(session_memory);
    return 0;
}
