/* Memory of the caller's: its size is asked for before the model is loaded, it suffices, and 64 bytes less do not.
 * Arguments: a model directory, its slots for masks, its slots for depth maps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "triplet.h"

enum { WIDTH = 56, HEIGHT = 40, POSITIONS = 256, ANSWER = 120 };

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

static size_t masks, depths;

/* A question whose answer has as many masks and depth maps as the model has slots for. */
static void fill(triplet_ask_options *options) {
    static triplet_plan_item plan[] = {{"ball", "mask", 0}, {"room", "depth", 0}};
    plan[0].count = masks;
    plan[1].count = depths;
    check(triplet_ask_options_init(options, sizeof *options), "options");
    options->question = "How far away is everything?";
    options->max_new_tokens = ANSWER;
    options->units = TRIPLET_UNIT_MASK | TRIPLET_UNIT_DEPTH;
    options->guide = TRIPLET_GUIDE_PLANNED;
    options->plan = plan;
    options->plan_count = 2;
}

/* The answer as JSON, to free. Its maps must lie in `memory` where that is not NULL. */
static char *ask(triplet_session *session, const triplet_image *image, unsigned char *memory, size_t size) {
    triplet_ask_options options;
    triplet_reply *reply, *other;
    triplet_reply_info info;
    triplet_mask mask;
    triplet_depth depth;
    const char *json;
    char *copy;
    size_t length;
    fill(&options);
    options.memory = memory;
    options.memory_size = size;
    check(triplet_session_ask(session, image, &options, &reply), "ask");
    info.struct_size = sizeof info;
    check(triplet_reply_get_info(reply, &info), "info");
    expect(info.triplet_count == masks + depths, "every map was asked for");
    mask.struct_size = sizeof mask;
    depth.struct_size = sizeof depth;
    check(triplet_reply_get_mask(reply, masks - 1, &mask), "mask");
    check(triplet_reply_get_depth(reply, masks + depths - 1, &depth), "depth");
    if (memory != NULL) {
        const unsigned char *last = (const unsigned char *)mask.probabilities;
        expect(last > memory && last < memory + size, "masks lie in the memory that is lent");
        expect((const unsigned char *)(depth.values + WIDTH * HEIGHT) == memory + size, "the depth map ends where it does");
        expect(triplet_session_ask(session, image, &options, &other) == TRIPLET_INVALID_ARGUMENT && other == NULL &&
                   strstr(triplet_last_error(), "memory is lent") != NULL,
               "the reply's memory is its own");
    }
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
    triplet_ask_options ask_options;
    triplet_reply *reply;
    void *image_memory, *session_memory, *reply_memory;
    char *usual, *lent;
    size_t i;
    if (count != 4)
        return 4;
    masks = strtoul(words[2], NULL, 10);
    depths = strtoul(words[3], NULL, 10);
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
    expect(before.reply == (masks + depths) * before.map, "a reply has as many maps as there are slots for them");
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
    usual = ask(session, image, NULL, 0);
    check(triplet_session_destroy(&session), "destroy");
    check(triplet_image_destroy(&image), "destroy");

    /* The same in memory that is lent. */
    image_memory = lend(before.image);
    session_memory = lend(before.session);
    reply_memory = lend(before.reply);
    view.memory = image_memory;
    view.memory_size = before.image;
    check(triplet_image_create(model, &view, &image), "image in memory that is lent");
    options.memory = session_memory;
    options.memory_size = before.session;
    check(triplet_session_create_with(model, &options, &session), "session in memory that is lent");
    for (i = 0; i < 3; i++) {
        lent = ask(session, image, reply_memory, before.reply);
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
    lent = ask(session, image, NULL, 0);
    expect(strcmp(usual, lent) == 0, "the answer is the same again");
    free(lent);
    fill(&ask_options);
    ask_options.memory = reply_memory;
    ask_options.memory_size = before.reply - TRIPLET_MEMORY_ALIGNMENT;
    expect(triplet_session_ask(session, image, &ask_options, &reply) == TRIPLET_OUT_OF_MEMORY && reply == NULL,
           "64 bytes less are too few for the reply");
    lent = ask(session, image, reply_memory, before.reply);
    expect(strcmp(usual, lent) == 0, "the session goes on");
    check(triplet_session_destroy(&session), "destroy");
    check(triplet_image_destroy(&image), "destroy");
    check(triplet_model_destroy(&model), "destroy");
    expect(triplet_live_handles() == 0, "no handle is left");
    printf("weights %zu image %zu kept %zu session %zu kv_cache %zu reply %zu\n", before.weights, before.image,
           before.image_kept, before.session, before.kv_cache, before.reply);
    free(usual);
    free(lent);
    free(image_memory);
    free(session_memory);
    free(reply_memory);
    return 0;
}
