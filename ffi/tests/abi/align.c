/* A run of locality alignment from C: align MODEL IMAGES OUT whole|parts
 *
 * `whole` takes all updates at once; `parts` is stopped, saved, destroyed and started again. Both print a line for every
 * update and leave the same files. */
#define TRIPLET_FINETUNE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <triplet.h>

#define UPDATES 6

static void expect(triplet_status wanted, triplet_status status, int line) {
    if (status == wanted)
        return;
    fprintf(stderr, "line %d: %s: %s\n", line, triplet_status_name(status), triplet_last_error());
    exit(1);
}
#define OK(call) expect(TRIPLET_OK, call, __LINE__)
#define IS(status, call) expect(status, call, __LINE__)
#define TRUE(condition) ((condition) ? (void)0 : (fprintf(stderr, "line %d: not so\n", __LINE__), exit(1)))

struct host {
    triplet_align *run;
    uint64_t told;
    uint64_t stop_at;
};

static int32_t told(void *user_data, const triplet_align_info *info) {
    struct host *host = user_data;
    triplet_align_info other;
    host->told++;
    printf("%u %.9g\n", (unsigned)info->updates, info->loss);
    /* The run is at work, and says so. */
    other.struct_size = sizeof other;
    IS(TRIPLET_BUSY, triplet_align_get_info(host->run, &other));
    IS(TRIPLET_BUSY, triplet_align_step(host->run, 1));
    IS(TRIPLET_BUSY, triplet_align_destroy(&host->run));
    if (info->updates == 2 && host->stop_at == 2)
        OK(triplet_align_stop(host->run));
    return info->updates == host->stop_at && host->stop_at != 2;
}

static triplet_align_info info_of(const triplet_align *run) {
    triplet_align_info info;
    info.struct_size = sizeof info;
    OK(triplet_align_get_info(run, &info));
    return info;
}

static void refusals(triplet_align_options options) {
    triplet_align *run = (triplet_align *)&options;
    triplet_align_options bad = options;
    bad.loss = 9;
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&bad, &run));
    TRUE(run == NULL && strstr(triplet_last_error(), "loss 9 is none"));
    bad = options;
    bad.flags = 128;
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&bad, &run));
    bad = options;
    bad.images = NULL;
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&bad, &run));
    TRUE(strstr(triplet_last_error(), "images is NULL"));
    bad = options;
    bad.model = "nowhere";
    IS(TRIPLET_IO, triplet_align_start(&bad, &run));
    bad = options;
    bad.parts = 3;
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&bad, &run));
    bad = options;
    bad.soft_cap = NAN;
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&bad, &run));
    TRUE(strstr(triplet_last_error(), "soft_cap"));
    bad = options;
    bad.threads = 5000;
    IS(TRIPLET_LIMIT, triplet_align_start(&bad, &run));
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(NULL, &run));
    IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&options, NULL));
    IS(TRIPLET_INVALID_HANDLE, triplet_align_step(NULL, 1));
    IS(TRIPLET_INVALID_HANDLE, triplet_align_stop((triplet_align *)&options));
    OK(triplet_align_destroy(&run));
    TRUE(triplet_live_handles() == 0);
}

int main(int argc, char **argv) {
    triplet_align_options options;
    struct host host = {NULL, 0, 0};
    triplet_align_info info;
    triplet_align *second;
    TRUE(argc == 5);
    OK(triplet_align_options_init(&options, sizeof options));
    TRUE(options.batch == 32 && options.rate == 3e-4 && options.soft_cap == 30.0);
    options.model = argv[1];
    options.images = argv[2];
    options.out = argv[3];
    options.updates = UPDATES;
    options.batch = 4;
    options.parts = 2;
    options.rate = 1e-3;
    options.threads = 1;
    options.progress = told;
    options.user_data = &host;
    refusals(options);

    OK(triplet_align_start(&options, &host.run));
    info = info_of(host.run);
    TRUE(!info.resumed && info.updates == 0 && info.total == UPDATES && info.saved == 0 && isnan(info.loss));
    IS(TRIPLET_IO, triplet_align_start(&options, &second));
    TRUE(second == NULL && strstr(triplet_last_error(), "another process works in this folder"));
    if (strcmp(argv[4], "parts") == 0) {
        host.stop_at = 2;
        IS(TRIPLET_CANCELLED, triplet_align_step(host.run, UPDATES));
        IS(TRIPLET_CANCELLED, triplet_align_step(host.run, 1));
        OK(triplet_align_resume(host.run));
        OK(triplet_align_save(host.run));
        info = info_of(host.run);
        TRUE(info.updates == 2 && info.saved == 2 && host.told == 2);
        OK(triplet_align_destroy(&host.run));
        /* Other options are refused by name; the same ones go on. */
        options.rate = 2e-3;
        IS(TRIPLET_INVALID_ARGUMENT, triplet_align_start(&options, &host.run));
        TRUE(strstr(triplet_last_error(), "rate: the run was begun with"));
        options.rate = 1e-3;
        options.threads = 2;
        host.stop_at = 4;
        OK(triplet_align_start(&options, &host.run));
        TRUE(info_of(host.run).resumed);
        IS(TRIPLET_CANCELLED, triplet_align_step(host.run, UPDATES));
        TRUE(strstr(triplet_last_error(), "callback"));
        host.stop_at = 0;
    }
    OK(triplet_align_step(host.run, 100));
    OK(triplet_align_step(host.run, 1));
    info = info_of(host.run);
    TRUE(info.updates == UPDATES && host.told == UPDATES && info.skipped <= 1 && isfinite(info.validation));
    OK(triplet_align_save(host.run));
    OK(triplet_align_export(host.run));
    OK(triplet_align_destroy(&host.run));
    OK(triplet_align_destroy(&host.run));
    TRUE(triplet_live_handles() == 0);
    return 0;
}
