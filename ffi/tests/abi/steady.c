/* A robot's frames: steady MODEL_DIR THREADS LENT [allocate|call]. Picture after picture is looked at, asked about in every way and read. After
 * some of them a frame may neither allocate nor make a system call but to wake its threads and to sleep (futex); one that
 * does ends the program: "allocations N" or "system call N". Prints "targets N", those read; "unwatched" before it where the
 * system cannot watch for system calls. With the last word the program itself does what it may not, to be found out. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <triplet.h>
#include <unistd.h>

enum { WIDTH = 56, HEIGHT = 40, WARM = 4, FRAMES = 7, TOKENS = 120, POSITIONS = 320 };

static atomic_long allocations;

static void check(triplet_status status, const char *what) {
    if (status != TRIPLET_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, triplet_status_name(status), triplet_last_error());
        exit(1);
    }
}

static void *allocate(void *context, size_t size, size_t alignment) {
    void *memory = NULL;
    (void)context;
    allocations++;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void release(void *context, void *memory, size_t size, size_t alignment) {
    (void)context, (void)size, (void)alignment;
    free(memory);
}

/* Not by stdio, which may allocate and look at the file. */
static void say(const char *words, long number) {
    char line[64];
    int length = snprintf(line, sizeof line, "%s %ld\n", words, number);
    if (write(1, line, (size_t)length) != length)
        _exit(10);
}

static void trapped(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    say("system call", info->si_syscall);
    _exit(9);
}

/* From here on no thread may make another system call than futex, and this one those that end it. */
static int watch(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_futex, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_write, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO;
    if (sigaction(SIGSYS, &action, NULL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return 0;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

static const triplet_plan_item everything[] = {
    {"red cup", "box", 2}, {"table", "mask", 1}, {"person", "keypoint", 1}, {"room", "depth", 1}};

struct question {
    const char *words;
    triplet_task task;
    triplet_unit units;
    triplet_guide guide;
    size_t first, count; /* of everything, for TRIPLET_GUIDE_PLANNED */
    float temperature;
};

static const struct question questions[] = {
    {"Where are the cups?", TRIPLET_TASK_DETECTION, 0, TRIPLET_GUIDE_PLANNED, 0, 1, 0},
    {"Mask the table.", TRIPLET_TASK_SEGMENTATION, 0, TRIPLET_GUIDE_PLANNED, 1, 1, 0},
    {"Who is there?", TRIPLET_TASK_KEYPOINT_DETECTION, 0, TRIPLET_GUIDE_PLANNED, 2, 1, 0},
    {"How far is it?", TRIPLET_TASK_DEPTH, 0, TRIPLET_GUIDE_PLANNED, 3, 1, 0},
    {"Find everything.", TRIPLET_TASK_DETECTION,
     TRIPLET_UNIT_BOX | TRIPLET_UNIT_MASK | TRIPLET_UNIT_KEYPOINT | TRIPLET_UNIT_DEPTH, TRIPLET_GUIDE_PLANNED, 0, 4, 0},
    {"What is there?", TRIPLET_TASK_DETECTION, 0, TRIPLET_GUIDE_STRUCTURAL, 0, 0, 0.1f},
    {"Tell me.", TRIPLET_TASK_GCG_DETECTION, 0, TRIPLET_GUIDE_PLANNED, 0, 0, 0},
    {"What is it?", TRIPLET_TASK_VQA, 0, TRIPLET_GUIDE_OFF, 0, 0, 0},
};

static int on_event(void *user_data, const triplet_event *event) {
    *(size_t *)user_data += event->text_len;
    return 0;
}

/* Reads all that a reply lends but its JSON; the number of its targets. */
static size_t read_reply(const triplet_reply *reply) {
    triplet_reply_info info;
    size_t i, targets = 0;
    info.struct_size = sizeof info;
    check(triplet_reply_get_info(reply, &info), "info");
    for (i = 0; i < info.plan_count; i++) {
        triplet_plan_item item;
        check(triplet_reply_get_plan_item(reply, i, &item), "plan");
        if (*item.name == 0)
            exit(3);
    }
    for (i = 0; i < info.triplet_count; i++) {
        triplet_entry entry;
        triplet_box area;
        triplet_mask mask;
        triplet_keypoints person;
        triplet_depth depth;
        entry.struct_size = sizeof entry;
        mask.struct_size = sizeof mask;
        person.struct_size = sizeof person;
        depth.struct_size = sizeof depth;
        check(triplet_reply_get_entry(reply, i, &entry), "entry");
        if (strlen(entry.phrase) != entry.phrase_len)
            exit(4);
        switch (entry.target) {
        case TRIPLET_TARGET_BOX: check(triplet_reply_get_box(reply, i, &area), "box"); break;
        case TRIPLET_TARGET_MASK: check(triplet_reply_get_mask(reply, i, &mask), "mask"); break;
        case TRIPLET_TARGET_KEYPOINTS:
            check(triplet_reply_get_keypoints(reply, i, &person), "keypoints");
            break;
        case TRIPLET_TARGET_DEPTH: check(triplet_reply_get_depth(reply, i, &depth), "depth"); break;
        default: continue;
        }
        targets++;
    }
    return targets;
}

static void *lend(size_t size) {
    void *memory = aligned_alloc(TRIPLET_MEMORY_ALIGNMENT, size);
    if (memory == NULL)
        exit(1);
    return memory;
}

int main(int count, char **words) {
    const triplet_allocator allocator = {allocate, release, NULL};
    static unsigned char pixels[WIDTH * HEIGHT * 3];
    triplet_model_options options;
    triplet_memory_bounds bounds;
    triplet_memory need;
    triplet_session_options begin;
    triplet_image_view view;
    triplet_ask_options ask;
    triplet_model *model;
    triplet_session *session;
    size_t i, targets = 0, heard = 0;
    int frame, lent;
    if (count != 4 && count != 5)
        return 2;
    lent = atoi(words[3]);
    for (i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7 % 251);
    check(triplet_set_allocator(&allocator), "allocator");
    check(triplet_model_options_init(&options, sizeof options), "options");
    options.threads = (uint32_t)atoi(words[2]);
    check(triplet_model_open(words[1], &options, &model), "open");
    check(triplet_memory_bounds_init(&bounds, sizeof bounds), "bounds");
    bounds.width = WIDTH;
    bounds.height = HEIGHT;
    bounds.positions = POSITIONS;
    need.struct_size = sizeof need;
    check(triplet_model_get_memory(model, &bounds, &need), "memory");
    check(triplet_session_options_init(&begin, sizeof begin), "options");
    begin.positions = POSITIONS;
    check(triplet_image_view_init(&view, sizeof view), "view");
    view.pixels = pixels;
    view.size = sizeof pixels;
    view.width = WIDTH;
    view.height = HEIGHT;
    check(triplet_ask_options_init(&ask, sizeof ask), "options");
    ask.max_new_tokens = TOKENS;
    ask.on_event = on_event;
    ask.user_data = &heard;
    if (lent) {
        begin.memory = lend(begin.memory_size = need.session);
        view.memory = lend(view.memory_size = need.image);
        ask.memory = lend(ask.memory_size = need.reply);
    }
    check(triplet_session_create_with(model, &begin, &session), "session");
    for (frame = 0; frame < FRAMES; frame++) {
        triplet_image *image;
        long before = allocations;
        if (frame == WARM && !watch())
            say("unwatched", 0);
        check(triplet_image_create(model, &view, &image), "image");
        for (i = 0; i < sizeof questions / sizeof *questions; i++) {
            const struct question *question = &questions[i];
            triplet_reply *reply;
            ask.question = question->words;
            ask.task = question->task;
            ask.units = question->units;
            ask.guide = question->guide;
            ask.plan = question->count ? everything + question->first : NULL;
            ask.plan_count = question->count;
            ask.temperature = question->temperature;
            check(triplet_session_ask(session, image, &ask, &reply), "ask");
            targets += read_reply(reply);
            check(triplet_reply_destroy(&reply), "destroy");
        }
        check(triplet_image_destroy(&image), "destroy");
        if (count == 5 && *words[4] == 'a')
            allocations++;
        if (count == 5 && *words[4] == 'c')
            getppid();
        if (frame >= WARM && allocations != before) {
            say("allocations", allocations - before);
            _exit(8);
        }
    }
    if (heard == 0)
        return 5;
    say("targets", (long)targets);
    _exit(0);
}
