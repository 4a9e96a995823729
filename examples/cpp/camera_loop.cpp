// A worker thread that always takes the newest frame and asks about it, as a robot's perception node does.
//
//   c++ -std=c++17 -pthread camera_loop.cpp $(pkg-config --cflags --libs triplet) -o camera_loop
//   ./camera_loop examples/tabletop/model detection "Detect everything." --seconds 5 --fps 10 frames/*.ppm
//
// Frames are binary PPM files that are shown in turn at --fps, as a camera would; those that come while the worker is busy
// are dropped. At the end latencies are printed and the answer that is being written is cancelled.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <triplet.hpp>
#include <vector>

using Clock = std::chrono::steady_clock;

struct Frame {
    std::size_t width = 0, height = 0;
    std::vector<std::uint8_t> pixels;
};

static double milliseconds(Clock::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

static std::optional<Frame> read_ppm(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    std::size_t max = 0;
    Frame frame;
    file >> magic >> frame.width >> frame.height >> max;
    if (!file || magic != "P6" || max != 255 || frame.width > 32768 || frame.height > 32768)
        return std::nullopt;
    file.get();
    frame.pixels.resize(frame.width * frame.height * 3);
    file.read(reinterpret_cast<char *>(frame.pixels.data()), static_cast<std::streamsize>(frame.pixels.size()));
    return file ? std::optional<Frame>(std::move(frame)) : std::nullopt;
}

// Holds the newest frame until it is taken.
class Newest {
  public:
    // Whether a frame that nobody took was dropped.
    bool put(const Frame *frame) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const bool dropped = frame_ != nullptr;
        frame_ = frame;
        shown_ = Clock::now();
        changed_.notify_one();
        return dropped;
    }

    // Waits for a frame; none after `close`.
    const Frame *take(Clock::time_point &shown) {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return frame_ || closed_; });
        shown = shown_;
        return closed_ ? nullptr : std::exchange(frame_, nullptr);
    }

    void close() {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
        changed_.notify_one();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    const Frame *frame_ = nullptr;
    Clock::time_point shown_;
    bool closed_ = false;
};

// What the worker has measured, in milliseconds from the moment a frame was shown to its reply.
struct Tally {
    std::vector<double> latencies;
    std::size_t triplets = 0, cancelled = 0;
    std::string failure;
};

static void work(const triplet::Model &model, triplet::Session &session, const triplet::Question &question,
                 Newest &newest, Tally &tally) {
    try {
        Clock::time_point shown;
        while (const Frame *frame = newest.take(shown)) {
            const triplet::Image image = model.image(triplet::view(frame->pixels.data(), frame->width, frame->height));
            const triplet::Reply reply = session.ask(image, question);
            if (reply.finish() == TRIPLET_FINISH_CANCELLED) {
                tally.cancelled++;
                continue;
            }
            tally.latencies.push_back(milliseconds(Clock::now() - shown));
            for (std::size_t i = 0; i < reply.size(); i++) {
                const triplet::Triplet found = reply[i];
                tally.triplets++;
                if (const auto *box = std::get_if<triplet::Box>(&found.target))
                    std::printf("%.*s %.2f: %.0f %.0f %.0f %.0f\n", static_cast<int>(found.phrase.size()),
                                found.phrase.data(), found.score, box->x0, box->y0, box->x1, box->y1);
            }
        }
    } catch (const std::exception &error) {
        tally.failure = error.what();
    }
}

static double percentile(const std::vector<double> &sorted, double share) {
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

static std::optional<triplet_task> task_of(const std::string &name) {
    static const char *const names[] = {
        "vqa",           "detection",        "segmentation",       "grounding_detection", "grounding_segmentation",
        "gcg_detection", "gcg_segmentation", "keypoint_detection", "grounding_keypoints", "depth",
    };
    const auto found = std::find(std::begin(names), std::end(names), name);
    if (found == std::end(names))
        return std::nullopt;
    return static_cast<triplet_task>(found - std::begin(names));
}

static int run(const std::vector<std::string> &words) {
    double seconds = 5, fps = 10;
    std::vector<Frame> frames;
    for (std::size_t i = 3; i < words.size(); i++) {
        if ((words[i] == "--seconds" || words[i] == "--fps") && i + 1 < words.size()) {
            double &value = words[i] == "--fps" ? fps : seconds;
            value = std::strtod(words[++i].c_str(), nullptr);
        } else if (auto frame = read_ppm(words[i])) {
            frames.push_back(std::move(*frame));
        } else {
            std::fprintf(stderr, "%s: not a binary PPM with 8 bits a channel\n", words[i].c_str());
            return 1;
        }
    }
    const auto task = words.size() > 1 ? task_of(words[1]) : std::nullopt;
    if (!task || frames.empty() || !(fps > 0) || !(seconds > 0)) {
        std::fprintf(stderr, "camera_loop MODEL_DIR TASK QUESTION [--seconds N] [--fps N] FRAME.ppm...\n");
        return 2;
    }
    const triplet::Model model = triplet::Model::open(words[0]);
    triplet::Session session = model.session();
    const triplet::Question question(*task, words[2]);
    Newest newest;
    Tally tally;
    std::thread worker([&] { work(model, session, question, newest, tally); });

    const Clock::time_point start = Clock::now(), end = start + std::chrono::duration_cast<Clock::duration>(
                                                                    std::chrono::duration<double>(seconds));
    std::size_t shown = 0, dropped = 0;
    while (Clock::now() < end) {
        dropped += newest.put(&frames[shown++ % frames.size()]);
        const auto next = start + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(static_cast<double>(shown) / fps));
        std::this_thread::sleep_until(std::min(next, end));
    }
    const Clock::time_point stopped = Clock::now();
    newest.close();
    session.cancel();
    worker.join();
    const double stop_time = milliseconds(Clock::now() - stopped);

    if (!tally.failure.empty()) {
        std::fprintf(stderr, "%s\n", tally.failure.c_str());
        return 1;
    }
    std::sort(tally.latencies.begin(), tally.latencies.end());
    std::fprintf(stderr, "frames: %zu shown, %zu answered, %zu dropped, %zu cancelled; %zu triplets\n", shown,
                 tally.latencies.size(), dropped, tally.cancelled, tally.triplets);
    if (!tally.latencies.empty())
        std::fprintf(stderr, "latency ms: p50 %.1f, p90 %.1f, p99 %.1f, max %.1f\n", percentile(tally.latencies, 0.5),
                     percentile(tally.latencies, 0.9), percentile(tally.latencies, 0.99), tally.latencies.back());
    std::fprintf(stderr, "stopped in %.1f ms\n", stop_time);
    return tally.latencies.empty() && tally.cancelled == 0 ? 1 : 0;
}

int main(int count, char **words) {
    try {
        return run(std::vector<std::string>(words + 1, words + count));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
