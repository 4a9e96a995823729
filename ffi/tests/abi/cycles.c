/* Creates, asks and destroys over and over: cycles MODEL_DIR COUNT. Prints the handles that are left and by how many KiB
 * resident memory grew in the second half. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <triplet.h>

enum { WIDTH = 40, HEIGHT = 28 };

static void check(triplet_status status) {
    if (status != TRIPLET_OK) {
        fprintf(stderr, "%s: %s\n", triplet_status_name(status), triplet_last_error());
        exit(1);
    }
}

static long resident_kib(void) {
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2)
        exit(1);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycle(const char *dir, unsigned char *pixels) {
    triplet_model_options model_options;
    triplet_model *model;
    triplet_session *session;
    triplet_image *image;
    triplet_reply *reply;
    triplet_image_view view;
    triplet_ask_options ask;
    const char *json;
    check(triplet_model_options_init(&model_options, sizeof model_options));
    model_options.threads = 1;
    check(triplet_model_open(dir, &model_options, &model));
    check(triplet_session_create(model, &session));
    check(triplet_image_view_init(&view, sizeof view));
    view.pixels = pixels;
    view.size = WIDTH * HEIGHT * 3;
    view.width = WIDTH;
    view.height = HEIGHT;
    check(triplet_image_create(model, &view, &image));
    check(triplet_ask_options_init(&ask, sizeof ask));
    ask.task = TRIPLET_TASK_GCG_DETECTION;
    ask.question = "What is this?";
    ask.max_new_tokens = 24;
    check(triplet_session_ask(session, image, &ask, &reply));
    check(triplet_reply_get_json(reply, &json, NULL));
    check(triplet_reply_destroy(&reply));
    check(triplet_image_destroy(&image));
    check(triplet_session_destroy(&session));
    check(triplet_model_destroy(&model));
}

int main(int count, char **words) {
    static unsigned char pixels[WIDTH * HEIGHT * 3];
    long cycles = count == 3 ? atol(words[2]) : 0, i, before = 0;
#ifdef __GLIBC__
    /* Or the threshold would follow the first cache that is freed, and the next ones stay in the heap for a while. */
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_ARENA_MAX, 1);
#endif
    for (i = 0; i < (long)sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7 % 251);
    for (i = 0; i < cycles; i++) {
        if (i == cycles / 2)
            before = resident_kib();
        cycle(words[1], pixels);
    }
    printf("%zu %ld\n", triplet_live_handles(), resident_kib() - before);
    return cycles > 0 ? 0 : 2;
}
