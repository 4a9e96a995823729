/* Looks at a picture, asks one question and prints the triplets in pixels, or the whole reply as JSON.
 *
 *   cc -std=c11 describe.c $(pkg-config --cflags --libs triplet) -o describe
 *   ./describe examples/tabletop/model scene.ppm detection "Detect everything."
 *   ./describe examples/tabletop/model scene.ppm depth "Estimate the depth." --json
 *
 * Pictures are binary PPM (P6) with 8 bits a channel. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <triplet.h>

struct picture {
    unsigned char *pixels;
    size_t width, height;
};

/* Names in the order of their numbers. */
static const char *const TASKS[] = {
    "vqa",           "detection",        "segmentation",       "grounding_detection", "grounding_segmentation",
    "gcg_detection", "gcg_segmentation", "keypoint_detection", "grounding_keypoints", "depth",
};

static int failed(const char *what, triplet_status status) {
    if (status == TRIPLET_OK)
        return 0;
    fprintf(stderr, "%s: %s: %s\n", what, triplet_status_name(status), triplet_last_error());
    return 1;
}

/* The next number of a PPM header; comments run from # to the end of their line. */
static int header_number(FILE *file, size_t *value) {
    int byte = fgetc(file);
    while (byte == '#' || byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') {
        while (byte == '#' && (byte = fgetc(file)) != '\n' && byte != EOF)
            byte = '#';
        byte = fgetc(file);
    }
    for (*value = 0; byte >= '0' && byte <= '9' && *value < 100000; byte = fgetc(file))
        *value = *value * 10 + (size_t)(byte - '0');
    return *value > 0 && byte != EOF;
}

static int read_ppm(const char *path, struct picture *picture) {
    size_t max = 0, size;
    FILE *file = fopen(path, "rb");
    int fine;
    if (!file) {
        perror(path);
        return 0;
    }
    picture->pixels = NULL;
    fine = fgetc(file) == 'P' && fgetc(file) == '6' && header_number(file, &picture->width) &&
           header_number(file, &picture->height) && header_number(file, &max) && max == 255;
    if (fine) {
        size = picture->width * picture->height * 3;
        picture->pixels = malloc(size);
        fine = picture->pixels && fread(picture->pixels, 1, size, file) == size;
    }
    fclose(file);
    if (!fine) {
        fprintf(stderr, "%s: not a binary PPM with 8 bits a channel\n", path);
        free(picture->pixels);
    }
    return fine;
}

static void print_target(const triplet_reply *reply, size_t index, triplet_target target) {
    size_t size, inside = 0, i;
    unsigned char *pixels;
    triplet_box box;
    triplet_keypoints person;
    triplet_mask mask;
    triplet_depth depth;
    person.struct_size = sizeof person;
    mask.struct_size = sizeof mask;
    depth.struct_size = sizeof depth;
    switch (target) {
    case TRIPLET_TARGET_BOX:
        if (!failed("box", triplet_reply_get_box(reply, index, &box)))
            printf("box x %.1f to %.1f, y %.1f to %.1f\n", box.x0, box.x1, box.y0, box.y1);
        break;
    case TRIPLET_TARGET_MASK:
        if (failed("mask", triplet_reply_get_mask(reply, index, &mask)))
            break;
        size = mask.width * mask.height;
        pixels = malloc(size);
        if (pixels && !failed("mask", triplet_mask_bytes(reply, index, 1, pixels, size, NULL)))
            for (i = 0; i < size; i++)
                inside += pixels[i];
        printf("mask of %zu of %zux%zu pixels\n", inside, mask.width, mask.height);
        free(pixels);
        break;
    case TRIPLET_TARGET_KEYPOINTS:
        if (failed("keypoints", triplet_reply_get_keypoints(reply, index, &person)))
            break;
        printf("keypoints");
        for (i = 0; i < TRIPLET_JOINTS; i++)
            printf(" (%.0f, %.0f)%s", person.points[i].x, person.points[i].y, person.points[i].visible ? "" : " hidden");
        printf("\n");
        break;
    case TRIPLET_TARGET_DEPTH:
        if (!failed("depth", triplet_reply_get_depth(reply, index, &depth)))
            printf("depth %.2f%s at the centre of %zux%zu pixels\n",
                   depth.values[depth.height / 2 * depth.width + depth.width / 2],
                   depth.unit == TRIPLET_DEPTH_METRE ? " m" : " (relative)", depth.width, depth.height);
        break;
    default:
        printf("no target\n");
    }
}

static int print_reply(const triplet_reply *reply, int as_json) {
    triplet_reply_info info;
    triplet_entry entry;
    const char *json;
    size_t i;
    if (as_json) {
        if (failed("json", triplet_reply_get_json(reply, &json, NULL)))
            return 0;
        puts(json);
        return 1;
    }
    info.struct_size = sizeof info;
    if (failed("reply", triplet_reply_get_info(reply, &info)))
        return 0;
    puts(info.text);
    for (i = 0; i < info.triplet_count; i++) {
        entry.struct_size = sizeof entry;
        if (failed("triplet", triplet_reply_get_entry(reply, i, &entry)))
            return 0;
        printf("  %s [%zu] %.2f: ", entry.phrase, entry.index, entry.score);
        print_target(reply, i, entry.target);
    }
    return 1;
}

int main(int count, char **words) {
    triplet_model *model = NULL;
    triplet_session *session = NULL;
    triplet_image *image = NULL;
    triplet_reply *reply = NULL;
    triplet_image_view view;
    triplet_ask_options ask;
    struct picture picture;
    int task = -1, done = 0;
    if (count >= 5)
        for (task = (int)(sizeof TASKS / sizeof *TASKS) - 1; task >= 0 && strcmp(TASKS[task], words[3]) != 0;)
            task--;
    if (task < 0) {
        fprintf(stderr, "describe MODEL_DIR IMAGE.ppm TASK QUESTION [--json]\n");
        return 2;
    }
    if (triplet_abi() != TRIPLET_ABI) {
        fprintf(stderr, "libtriplet %s has another ABI than the header\n", triplet_version());
        return 1;
    }
    if (!read_ppm(words[2], &picture))
        return 1;
    triplet_image_view_init(&view, sizeof view);
    view.pixels = picture.pixels;
    view.size = picture.width * picture.height * 3;
    view.width = picture.width;
    view.height = picture.height;
    triplet_ask_options_init(&ask, sizeof ask);
    ask.task = task;
    ask.question = words[4];
    if (!failed("model", triplet_model_open(words[1], NULL, &model)) &&
        !failed("session", triplet_session_create(model, &session)) &&
        !failed("image", triplet_image_create(model, &view, &image)) &&
        !failed("ask", triplet_session_ask(session, image, &ask, &reply)))
        done = print_reply(reply, count > 5 && strcmp(words[5], "--json") == 0);
    triplet_reply_destroy(&reply);
    triplet_image_destroy(&image);
    triplet_session_destroy(&session);
    triplet_model_destroy(&model);
    free(picture.pixels);
    return done ? 0 : 1;
}
