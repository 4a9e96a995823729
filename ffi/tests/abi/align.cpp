// A run of locality alignment from C++: align MODEL IMAGES OUT; prints "fine".
#define TRIPLET_FINETUNE
#include <cstdio>
#include <triplet.hpp>
#include <type_traits>

static_assert(!std::is_copy_constructible_v<triplet::Align> && std::is_nothrow_move_constructible_v<triplet::Align>);

static int fail(const char *what) {
    std::printf("%s: %s\n", what, triplet_last_error());
    return 1;
}

static int use(char **words) {
    triplet_align_options options = triplet::align_options();
    options.images = words[2];
    options.out = words[3];
    options.updates = 6;
    options.batch = 4;
    options.parts = 2;
    options.rate = 1e-3;
    options.threads = 1;
    auto refused = triplet::Align::try_start(options);
    if (refused || refused.error().status != TRIPLET_INVALID_ARGUMENT ||
        refused.error().message.find("model") == std::string::npos)
        return fail("no model");
    options.model = words[1];
    auto started = triplet::Align::try_start(options);
    if (!started)
        return fail("start");
    triplet::Align run = std::move(*started);
    auto after = run.try_step(2);
    if (!after || after->updates != 2 || after->saved != 0 || started->get())
        return fail("step");
    run.stop();
    auto stopped = run.try_step(1);
    if (stopped || stopped.error().status != TRIPLET_CANCELLED)
        return fail("stop");
    run.resume();
    if (!run.try_step(100) || !run.try_save() || !run.try_export())
        return fail("the rest");
    auto end = run.try_info();
    if (!end || end->updates != 6 || end->saved != 6)
        return fail("end");
#if TRIPLET_HAS_EXCEPTIONS
    try {
        options.rate = 2;
        const triplet::Align none = triplet::Align::start(options);
        return fail("no exception");
    } catch (const triplet::Error &) {
    }
    if (run.info().updates != 6 || run.step(1).updates != 6 || run.save().saved != 6 || run.export_encoder().total != 6)
        return fail("info");
#endif
    return 0;
}

int main(int count, char **words) {
    const int failed = count == 4 ? use(words) : 2;
    if (failed)
        return failed;
    if (triplet_live_handles() != 0)
        return fail("handles are left");
    std::puts("fine");
    return 0;
}
