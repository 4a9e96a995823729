// The C++ wrapper as a program uses it; prints "fine".
#include <cstdio>
#include <triplet.hpp>
#include <type_traits>

static_assert(!std::is_copy_constructible_v<triplet::Model> && std::is_nothrow_move_constructible_v<triplet::Model>);
static_assert(!std::is_copy_constructible_v<triplet::Reply> && std::is_move_assignable_v<triplet::Reply>);

static int fail(const char *what) {
    std::printf("%s: %s\n", what, triplet_last_error());
    return 1;
}

static int use(const char *dir) {
    std::vector<std::uint8_t> pixels(40 * 28 * 3);
    for (std::size_t i = 0; i < pixels.size(); i++)
        pixels[i] = static_cast<std::uint8_t>(i * 7 % 251);
    auto missing = triplet::Model::try_open("/nowhere");
    if (missing || missing.error().status != TRIPLET_IO || missing.error().message.find("/nowhere") == std::string::npos)
        return fail("missing");
    auto opened = triplet::Model::try_open(dir);
    if (!opened)
        return fail("open");
    auto session = opened->try_session();
    auto image = opened->try_image(triplet::view(pixels.data(), 40, 28));
    if (!session || !image || !opened->warnings().empty())
        return fail("session");
    {
        const triplet::Model gone = std::move(*opened);
    }
    triplet::Question question(TRIPLET_TASK_GCG_DETECTION, "What is [VPT]?");
    triplet_prompt prompt{};
    prompt.kind = TRIPLET_PROMPT_BOX;
    prompt.area = {3, 4, 20, 20};
    question.prompts.push_back(prompt);
    question.plan = {{"red ball", "box", 1}, {"cup", "mask", 1}, {"person", "keypoint", 1}};
    question.options.guide = TRIPLET_GUIDE_PLANNED;
    question.options.units = TRIPLET_UNIT_BOX | TRIPLET_UNIT_MASK | TRIPLET_UNIT_KEYPOINT;
    question.options.max_new_tokens = 200;
    std::string told;
    question.on_event = [&](const triplet_event &event) {
        if (event.kind == TRIPLET_EVENT_TOKEN)
            told.append(event.text, event.text_len);
        return true;
    };
    auto answered = session->try_ask(*image, question);
    if (!answered)
        return fail("ask");
    triplet::Reply reply = std::move(*answered);
    if (reply.size() != 3 || reply.text() != told || reply.plan().size() != 3 || reply.width() != 40)
        return fail("reply");
    const triplet::Triplet ball = reply[0], cup = reply[1], person = reply[2];
    const auto *box = std::get_if<triplet::Box>(&ball.target);
    const auto *mask = std::get_if<triplet::Mask>(&cup.target);
    const auto *joints = std::get_if<triplet::Keypoints>(&person.target);
    if (!box || !mask || !joints || ball.phrase != "red ball" || box->x1 > 40)
        return fail("targets");
    if (mask->bytes().size() != 40 * 28 || reply.coco_rle(1).empty() || !reply.coco_rle(0).empty())
        return fail("mask");
    if (reply.json().find(reply.coco_rle(1)) == std::string_view::npos && reply.coco_rle(1).find('\\') == std::string::npos)
        return fail("json");
    auto given = session->try_decode_tokens(*image, question, reply.ids());
    if (!given || given->finish() != TRIPLET_FINISH_GIVEN || given->size() != 3)
        return fail("given");
    session->cancel();
    auto stopped = session->try_ask(*image, question);
    if (!stopped || stopped->finish() != TRIPLET_FINISH_CANCELLED)
        return fail("cancel");
    session->resume();
#if TRIPLET_HAS_EXCEPTIONS
    question.on_event = [](const triplet_event &) -> bool { throw 7; };
    try {
        const triplet::Reply none = session->ask(*image, question);
        return fail("no exception of the callback");
    } catch (int thrown) {
        if (thrown != 7)
            return fail("another exception");
    }
    try {
        const triplet::Model none = triplet::Model::open("/nowhere");
        return fail("no exception");
    } catch (const triplet::Error &error) {
        if (error.status() != TRIPLET_IO)
            return fail("another status");
    }
#endif
    return 0;
}

int main(int count, char **words) {
    const int failed = count == 2 ? use(words[1]) : 2;
    if (failed)
        return failed;
    if (triplet_live_handles() != 0)
        return fail("handles are left");
    std::puts("fine");
    return 0;
}
