/* Plants an overflow inside the library: overflow MODEL_DIR asks for a mask in a buffer of 10 bytes that it says is larger.
 * Under AddressSanitizer it must not come to its end. */
#include <stdio.h>
#include <stdlib.h>
#include <triplet.h>

enum { WIDTH = 40, HEIGHT = 28 };

static void check(triplet_status status) {
    if (status != TRIPLET_OK) {
        fprintf(stderr, "%s: %s\n", triplet_status_name(status), triplet_last_error());
        exit(2);
    }
}

int main(int count, char **words) {
    static unsigned char pixels[WIDTH * HEIGHT * 3];
    const triplet_plan_item item = {"cup", "mask", 1};
    unsigned char *small = malloc(10);
    triplet_model *model;
    triplet_session *session;
    triplet_image *image;
    triplet_reply *reply;
    triplet_image_view view;
    triplet_ask_options ask;
    if (count != 2 || !small)
        return 2;
    check(triplet_model_open(words[1], NULL, &model));
    check(triplet_session_create(model, &session));
    check(triplet_image_view_init(&view, sizeof view));
    view.pixels = pixels;
    view.size = sizeof pixels;
    view.width = WIDTH;
    view.height = HEIGHT;
    check(triplet_image_create(model, &view, &image));
    check(triplet_ask_options_init(&ask, sizeof ask));
    ask.task = TRIPLET_TASK_SEGMENTATION;
    ask.question = "Mask the cup.";
    ask.guide = TRIPLET_GUIDE_PLANNED;
    ask.plan = &item;
    ask.plan_count = 1;
    ask.max_new_tokens = 60;
    check(triplet_session_ask(session, image, &ask, &reply));
    check(triplet_mask_bytes(reply, 0, 255, small, WIDTH * HEIGHT, NULL));
    puts("not caught");
    return 0;
}
