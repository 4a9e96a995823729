// triplet for C++17: the handles of triplet.h as move-only objects. Header-only; link libtriplet.
//
// Every operation that can fail comes twice: `ask` throws triplet::Error, `try_ask` returns a Result, which is a value or
// a Failure. Without exceptions (-fno-exceptions) only the second kind is there. What threads may do is said in triplet.h:
// models, images and replies are shared freely, a session is used by one thread at a time, Session::cancel by any.
#ifndef TRIPLET_HPP
#define TRIPLET_HPP

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "triplet.h"

#if defined(__cpp_exceptions)
#define TRIPLET_HAS_EXCEPTIONS 1
#include <exception>
#include <stdexcept>
#else
#define TRIPLET_HAS_EXCEPTIONS 0
#endif

namespace triplet {

// Why a call failed.
struct Failure {
    triplet_status status = TRIPLET_OK;
    std::string message;
};

#if TRIPLET_HAS_EXCEPTIONS
// A Failure that is thrown.
class Error : public std::runtime_error {
  public:
    explicit Error(const Failure &failure)
        : std::runtime_error(std::string(triplet_status_name(failure.status)) + ": " + failure.message),
          status_(failure.status) {}

    triplet_status status() const noexcept { return status_; }

  private:
    triplet_status status_;
};
#endif

// A value or why there is none.
template <class T> class [[nodiscard]] Result {
  public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    explicit operator bool() const noexcept { return state_.index() == 0; }

    // Of a Result that holds a value; aborts otherwise.
    T &operator*() & { return *held(); }
    T &&operator*() && { return std::move(*held()); }
    T *operator->() { return held(); }

    // Of a Result that holds none; aborts otherwise.
    const Failure &error() const {
        const Failure *failure = std::get_if<1>(&state_);
        return failure ? *failure : (std::abort(), *failure);
    }

#if TRIPLET_HAS_EXCEPTIONS
    // The value; throws Error where there is none.
    T value() && {
        if (!*this)
            throw Error(error());
        return std::move(*held());
    }
#endif

  private:
    T *held() {
        T *value = std::get_if<0>(&state_);
        return value ? value : (std::abort(), value);
    }

    std::variant<T, Failure> state_;
};

// The failure of the call before on this thread.
inline Failure last_failure(triplet_status status) { return {status, triplet_last_error()}; }

namespace detail {

// Owns a handle.
template <class T, triplet_status (*Destroy)(T **)> class Handle {
  public:
    Handle() = default;
    explicit Handle(T *handle) : handle_(handle) {}
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            Destroy(&handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { Destroy(&handle_); }

    T *get() const noexcept { return handle_; }

  private:
    T *handle_ = nullptr;
};

template <class T> T sized() {
    T value{};
    value.struct_size = static_cast<std::uint32_t>(sizeof(T));
    return value;
}

} // namespace detail

// Pixels in the caller's memory; filled with width * height pixels without gaps unless `stride` says otherwise.
inline triplet_image_view view(const std::uint8_t *pixels, std::size_t width, std::size_t height,
                               triplet_pixel_format format = TRIPLET_PIXEL_FORMAT_RGB8, std::size_t stride = 0) {
    triplet_image_view view;
    triplet_image_view_init(&view, sizeof view);
    const bool grey = format == TRIPLET_PIXEL_FORMAT_GRAY8;
    const bool four = format == TRIPLET_PIXEL_FORMAT_RGBA8 || format == TRIPLET_PIXEL_FORMAT_BGRA8;
    const std::size_t row = width * (grey ? 1 : four ? 4 : 3);
    view.pixels = pixels;
    view.width = width;
    view.height = height;
    view.format = format;
    view.stride = stride ? stride : row;
    view.size = height ? view.stride * (height - 1) + row : 0;
    return view;
}

// What a model sees of a picture.
class Image {
  public:
    explicit Image(triplet_image *handle) : handle_(handle) {}
    triplet_image *get() const noexcept { return handle_.get(); }

  private:
    detail::Handle<triplet_image, triplet_image_destroy> handle_;
};

// Targets; pointers are borrowed from their Reply.
using Box = triplet_box;
using Keypoints = triplet_keypoints;
using Depth = triplet_depth;
struct Mask : triplet_mask {
    // Row-major, `inside` or 0.
    std::vector<std::uint8_t> bytes(std::uint8_t inside = 255) const {
        const std::size_t size = width * height;
        std::vector<std::uint8_t> out(size);
        for (std::size_t i = 0; i < size; i++)
            out[i] = probabilities[i] > threshold ? inside : 0;
        return out;
    }
};

// Concept, decoding type, target; borrowed from its Reply.
struct Triplet {
    std::string_view phrase;
    triplet_unit unit = TRIPLET_UNIT_NONE;
    std::size_t group = 0, index = 0;
    float score = 0;
    std::uint32_t flags = 0;
    std::variant<std::monostate, Box, Mask, Keypoints, Depth> target;
};

// An answer. What it lends lives as long as it does, and moves with it.
class Reply {
  public:
    explicit Reply(triplet_reply *handle) : handle_(handle), info_(detail::sized<triplet_reply_info>()) {
        triplet_reply_get_info(handle, &info_);
    }

    triplet_finish finish() const noexcept { return info_.finish; }
    std::uint32_t flags() const noexcept { return info_.flags; }
    std::string_view text() const noexcept { return {info_.text, info_.text_len}; }
    std::string_view sentence() const noexcept { return {info_.sentence, info_.sentence_len}; }
    std::vector<std::uint32_t> ids() const {
        return info_.id_count ? std::vector<std::uint32_t>(info_.ids, info_.ids + info_.id_count)
                              : std::vector<std::uint32_t>();
    }
    std::size_t size() const noexcept { return info_.triplet_count; }
    std::size_t width() const noexcept { return info_.width; }
    std::size_t height() const noexcept { return info_.height; }

    std::vector<triplet_plan_item> plan() const {
        std::vector<triplet_plan_item> items(info_.plan_count);
        for (std::size_t i = 0; i < items.size(); i++)
            triplet_reply_get_plan_item(get(), i, &items[i]);
        return items;
    }

    // Triplet number `index`; one without phrase, unit and target beyond the end.
    Triplet operator[](std::size_t index) const {
        auto entry = detail::sized<triplet_entry>();
        Triplet triplet;
        if (triplet_reply_get_entry(get(), index, &entry) != TRIPLET_OK)
            return triplet;
        triplet.phrase = {entry.phrase, entry.phrase_len};
        triplet.unit = entry.unit;
        triplet.group = entry.group;
        triplet.index = entry.index;
        triplet.score = entry.score;
        triplet.flags = entry.flags;
        switch (entry.target) {
        case TRIPLET_TARGET_BOX: {
            Box box{};
            triplet_reply_get_box(get(), index, &box);
            triplet.target = box;
            break;
        }
        case TRIPLET_TARGET_MASK: {
            Mask mask{detail::sized<triplet_mask>()};
            triplet_reply_get_mask(get(), index, &mask);
            triplet.target = mask;
            break;
        }
        case TRIPLET_TARGET_KEYPOINTS: {
            auto keypoints = detail::sized<triplet_keypoints>();
            triplet_reply_get_keypoints(get(), index, &keypoints);
            triplet.target = keypoints;
            break;
        }
        case TRIPLET_TARGET_DEPTH: {
            auto depth = detail::sized<triplet_depth>();
            triplet_reply_get_depth(get(), index, &depth);
            triplet.target = depth;
            break;
        }
        default:
            break;
        }
        return triplet;
    }

    std::string_view json() const {
        const char *json = "";
        std::size_t length = 0;
        triplet_reply_get_json(get(), &json, &length);
        return {json, length};
    }

    // The mask of triplet number `index` as pycocotools' `counts`; empty where it has none.
    std::string coco_rle(std::size_t index) const {
        std::size_t needed = 0;
        if (triplet_mask_coco_rle(get(), index, nullptr, 0, &needed) != TRIPLET_OK || needed == 0)
            return {};
        std::string text(needed, '\0');
        if (triplet_mask_coco_rle(get(), index, &text[0], needed, nullptr) != TRIPLET_OK)
            return {};
        text.pop_back();
        return text;
    }

    triplet_reply *get() const noexcept { return handle_.get(); }

  private:
    detail::Handle<triplet_reply, triplet_reply_destroy> handle_;
    triplet_reply_info info_;
};

// What is asked. `options` has what is not listed here; its pointers to the members below are set when it is asked.
struct Question {
    Question(triplet_task task, std::string text) : text(std::move(text)) {
        triplet_ask_options_init(&options, sizeof options);
        options.task = task;
    }

    std::string text;
    std::vector<triplet_prompt> prompts;
    std::vector<triplet_plan_item> plan;
    // Told every token and every triplet; returns whether to go on. What it throws comes out of `ask`.
    std::function<bool(const triplet_event &)> on_event;
    triplet_ask_options options;
};

// A conversation with a model.
class Session {
  public:
    explicit Session(triplet_session *handle) : handle_(handle) {}

    Result<Reply> try_ask(const Image &image, const Question &question) {
        Watch watch{&question.on_event};
        triplet_ask_options options = filled(question, watch);
        triplet_reply *reply = nullptr;
        const triplet_status status = triplet_session_ask(get(), image.get(), &options, &reply);
#if TRIPLET_HAS_EXCEPTIONS
        if (watch.thrown) {
            triplet_reply_destroy(&reply);
            std::rethrow_exception(watch.thrown);
        }
#endif
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Reply(reply);
    }

    Result<Reply> try_decode_tokens(const Image &image, const Question &question, const std::vector<std::uint32_t> &ids) {
        Watch watch;
        triplet_ask_options options = filled(question, watch);
        triplet_reply *reply = nullptr;
        const triplet_status status =
            triplet_session_decode_tokens(get(), image.get(), &options, ids.data(), ids.size(), &reply);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Reply(reply);
    }

#if TRIPLET_HAS_EXCEPTIONS
    Reply ask(const Image &image, const Question &question) { return try_ask(image, question).value(); }
    Reply decode_tokens(const Image &image, const Question &question, const std::vector<std::uint32_t> &ids) {
        return try_decode_tokens(image, question, ids).value();
    }
#endif

    // Any thread: ends the answer that is being written and every later one, until `resume`.
    void cancel() const noexcept { triplet_session_cancel(get()); }
    void resume() const noexcept { triplet_session_resume(get()); }

    triplet_session *get() const noexcept { return handle_.get(); }

  private:
    struct Watch {
        const std::function<bool(const triplet_event &)> *on_event = nullptr;
#if TRIPLET_HAS_EXCEPTIONS
        std::exception_ptr thrown = nullptr;
#endif
    };

    static std::int32_t tell(void *user_data, const triplet_event *event) {
        Watch &watch = *static_cast<Watch *>(user_data);
#if TRIPLET_HAS_EXCEPTIONS
        try {
            return (*watch.on_event)(*event) ? 0 : 1;
        } catch (...) {
            watch.thrown = std::current_exception();
            return 1;
        }
#else
        return (*watch.on_event)(*event) ? 0 : 1;
#endif
    }

    static triplet_ask_options filled(const Question &question, Watch &watch) {
        triplet_ask_options options = question.options;
        if (!options.prompt_ids)
            options.question = question.text.c_str();
        options.prompts = question.prompts.data();
        options.prompt_count = question.prompts.size();
        if (!question.plan.empty()) {
            options.plan = question.plan.data();
            options.plan_count = question.plan.size();
        }
        if (watch.on_event && *watch.on_event) {
            options.on_event = tell;
            options.user_data = &watch;
        }
        return options;
    }

    detail::Handle<triplet_session, triplet_session_destroy> handle_;
};

inline triplet_model_options model_options() {
    triplet_model_options options;
    triplet_model_options_init(&options, sizeof options);
    return options;
}

inline triplet_session_options session_options() {
    triplet_session_options options;
    triplet_session_options_init(&options, sizeof options);
    return options;
}

// A model. Shared between threads by reference; sessions and images outlive it.
class Model {
  public:
    static Result<Model> try_open(const std::string &dir, const triplet_model_options &options = model_options()) {
        triplet_model *model = nullptr;
        const triplet_status status = triplet_model_open(dir.c_str(), &options, &model);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Model(model);
    }

    static Result<Model> try_from_bytes(const triplet_model_bytes &bytes,
                                        const triplet_model_options &options = model_options()) {
        triplet_model *model = nullptr;
        const triplet_status status = triplet_model_from_bytes(&bytes, &options, &model);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Model(model);
    }

    Result<Session> try_session(const triplet_session_options &options = session_options()) const {
        triplet_session *session = nullptr;
        const triplet_status status = triplet_session_create_with(get(), &options, &session);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Session(session);
    }

    Result<Image> try_image(const triplet_image_view &view) const {
        triplet_image *image = nullptr;
        const triplet_status status = triplet_image_create(get(), &view, &image);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Image(image);
    }

#if TRIPLET_HAS_EXCEPTIONS
    static Model open(const std::string &dir, const triplet_model_options &options = model_options()) {
        return try_open(dir, options).value();
    }
    static Model from_bytes(const triplet_model_bytes &bytes, const triplet_model_options &options = model_options()) {
        return try_from_bytes(bytes, options).value();
    }
    Session session(const triplet_session_options &options = session_options()) const {
        return try_session(options).value();
    }
    Image image(const triplet_image_view &view) const { return try_image(view).value(); }
#endif

    // Where it computes: "cpu", "cuda:0 (...)", or "cpu (no GPU: ...)" where "auto" found none.
    std::string device() const {
        const char *device = nullptr;
        return triplet_model_device(get(), &device) == TRIPLET_OK ? device : "";
    }

    std::vector<std::string> warnings() const {
        std::vector<std::string> warnings;
        auto info = detail::sized<triplet_model_info>();
        triplet_model_get_info(get(), &info);
        for (std::size_t i = 0; i < info.warning_count; i++) {
            const char *warning = "";
            triplet_model_warning(get(), i, &warning);
            warnings.emplace_back(warning);
        }
        return warnings;
    }

    triplet_model *get() const noexcept { return handle_.get(); }

  private:
    explicit Model(triplet_model *handle) : handle_(handle) {}

    detail::Handle<triplet_model, triplet_model_destroy> handle_;
};

#ifdef TRIPLET_FINETUNE
inline triplet_align_options align_options() {
    triplet_align_options options;
    triplet_align_options_init(&options, sizeof options);
    return options;
}

// A run of locality alignment in a folder; nothing is saved when it goes. One thread at a time; `stop` and `resume` from any.
// What can fail gives where the run is afterwards.
class Align {
  public:
    static Result<Align> try_start(const triplet_align_options &options) {
        triplet_align *run = nullptr;
        const triplet_status status = triplet_align_start(&options, &run);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return Align(run);
    }

    // TRIPLET_CANCELLED where the run was stopped; it can go on.
    Result<triplet_align_info> try_step(std::uint64_t updates) { return where(triplet_align_step(get(), updates)); }
    Result<triplet_align_info> try_save() { return where(triplet_align_save(get())); }
    Result<triplet_align_info> try_export() { return where(triplet_align_export(get())); }
    Result<triplet_align_info> try_info() const { return where(TRIPLET_OK); }

#if TRIPLET_HAS_EXCEPTIONS
    static Align start(const triplet_align_options &options) { return try_start(options).value(); }
    triplet_align_info step(std::uint64_t updates) { return try_step(updates).value(); }
    triplet_align_info save() { return try_save().value(); }
    triplet_align_info export_encoder() { return try_export().value(); }
    triplet_align_info info() const { return try_info().value(); }
#endif

    void stop() const noexcept { triplet_align_stop(get()); }
    void resume() const noexcept { triplet_align_resume(get()); }

    triplet_align *get() const noexcept { return handle_.get(); }

  private:
    explicit Align(triplet_align *handle) : handle_(handle) {}

    Result<triplet_align_info> where(triplet_status status) const {
        auto info = detail::sized<triplet_align_info>();
        if (status == TRIPLET_OK)
            status = triplet_align_get_info(get(), &info);
        if (status != TRIPLET_OK)
            return last_failure(status);
        return info;
    }

    detail::Handle<triplet_align, triplet_align_destroy> handle_;
};
#endif

} // namespace triplet

#endif
