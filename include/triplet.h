/* triplet: ask a picture in words, get geometry back. Generated from ffi/src by `make header`; see docs/c-api.md.
 *
 * Every function that returns a triplet_status may be called with anything: NULL, a handle that was destroyed or never
 * given out, numbers out of range. It then returns what is wrong and leaves the rest alone. Structs that the caller fills
 * start with struct_size and have an _init function; those that the library fills have struct_size set by the caller.
 * Coordinates are pixels of the caller's picture: x to the right, y down, (0, 0) the upper left corner of the upper left
 * pixel. */

#ifndef TRIPLET_H
#define TRIPLET_H

#include <stddef.h>
#include <stdint.h>
#ifndef TRIPLET_API
#if defined(__GNUC__)
#define TRIPLET_API __attribute__((visibility("default")))
#else
#define TRIPLET_API
#endif
#endif


/**
 * Number of the ABI. Functions and fields at the end of structs may be added under one number; it changes when anything
 * else does, and the shared library's name with it.
 */
#define TRIPLET_ABI 0

/**
 * Major version of the header.
 */
#define TRIPLET_VERSION_MAJOR 0

/**
 * Minor version of the header.
 */
#define TRIPLET_VERSION_MINOR 1

/**
 * Patch version of the header.
 */
#define TRIPLET_VERSION_PATCH 0

/**
 * Joints of a person, in COCO-17 order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before
 * right.
 */
#define TRIPLET_JOINTS 17

/**
 * Memory that is lent begins at a multiple of as many bytes; what is more than a multiple of it at the end is not used.
 */
#define TRIPLET_MEMORY_ALIGNMENT 64

/**
 * Stands for the picture in `prompt_ids`.
 */
#define TRIPLET_PROMPT_ID_IMAGE -200

/**
 * Stands for the next visual prompt in `prompt_ids`.
 */
#define TRIPLET_PROMPT_ID_VISUAL_PROMPT -300

/**
 * What a model sees of a picture. Immutable; any session of the same model may be asked about it, on any thread. It
 * holds on to what it needs of its model, and nothing of the caller's pixels.
 */
typedef struct triplet_image triplet_image;

/**
 * A model: configuration, weights and vocabulary. Immutable; any number of threads may use it at once. Sessions and
 * images hold on to what they need of it, so that it may be destroyed before them.
 */
typedef struct triplet_model triplet_model;

/**
 * An answer. Immutable; any thread. What its functions lend is valid until it is destroyed.
 */
typedef struct triplet_reply triplet_reply;

/**
 * A conversation with a model. It remembers what it read last, so that a further question about the same picture costs
 * only what is new. One thread at a time, any thread; the same bits on every one.
 */
typedef struct triplet_session triplet_session;

/**
 * What a call came to: `TRIPLET_OK` or why it failed; `triplet_last_error` has the words.
 */
typedef int32_t triplet_status;

/**
 * Where memory comes from. All functions may be called on any thread, several at once, and must not throw. Never changes.
 */
typedef struct triplet_allocator {
  /**
   * `size` bytes, more than 0, whose address is a multiple of `alignment`, a power of 2; NULL where there are none.
   */
  void *(*allocate)(void *context, size_t size, size_t alignment);
  /**
   * Takes back what `allocate` gave for the same size and alignment.
   */
  void (*release)(void *context, void *memory, size_t size, size_t alignment);
  /**
   * Passed to both.
   */
  void *context;
} triplet_allocator;

/**
 * How the bytes of a weights file come to memory.
 */
typedef int32_t triplet_access;

/**
 * Told how many of the `total` bytes of weights have been read. Any other value than 0 stops the loading. It runs on the
 * thread that loads and must not throw.
 */
typedef int32_t (*triplet_progress_fn)(void *user_data, uint64_t done, uint64_t total);

/**
 * A piece of work: called with the argument and a number.
 */
typedef void (*triplet_work_fn)(void *argument, size_t index);

/**
 * Spreads work over threads of the caller's: calls `work(argument, i)` for every `i` below `count`, on any threads in any
 * order, and returns when all calls have returned. `count` is at most the number of threads that the model was given; every
 * call works until nothing is left to do, and what is left after all is done by the library on the asking thread.
 * Called on the thread that asks or encodes, several times for every layer, and by several threads at once where several
 * ask. Must not throw.
 */
typedef void (*triplet_parallel_for_fn)(void *context, size_t count, triplet_work_fn work, void *argument);

/**
 * How a model is loaded. Fill it with `triplet_model_options_init`.
 */
typedef struct triplet_model_options {
  /**
   * sizeof(triplet_model_options).
   */
  uint32_t struct_size;
  /**
   * Threads that the model computes on, the asking thread not counted; 0 for as many as the machine has cores, 1 for the
   * asking thread alone, at most 1024. Results do not depend on it, bit for bit.
   */
  uint32_t threads;
  /**
   * How weights come to memory; of files only.
   */
  triplet_access access;
  /**
   * Not 0: reads all weights before anything else and refuses those that are not finite.
   */
  int32_t verify;
  /**
   * Where `verify` is not 0, called at least every 16 MiB of weights; always called at the start and at the end. May be
   * NULL.
   */
  triplet_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *user_data;
  /**
   * Threads of the caller's, which then take the place of the model's own; `threads` is their number, and 0 counts as 1.
   * May be NULL. They must be there until the model and all of its sessions and images are destroyed.
   */
  triplet_parallel_for_fn parallel_for;
  /**
   * Passed to `parallel_for`.
   */
  void *parallel_context;
  /**
   * Most bytes of freed buffers that the model, its sessions, images and replies together keep to use them again, beside
   * memory that was lent to them. 0 has them given back to the allocator at once, which costs time.
   */
  size_t pool_size;
  /**
   * Where the model computes: "cpu"; "cuda:N" for NVIDIA GPU number N of a library that is built with the feature `cuda`; "auto"
   * for the first GPU that works, or the CPU where none does, `triplet_model_device` says which. NULL is "cpu". Read during the
   * call only.
   */
  const char *device;
  /**
   * Not 0: on the CPU, weights of linear layers in `f32` and in eight bits are copied when the model is loaded, in the order in
   * which products read them, which are then faster: in `f32` about 0.8 times as long, 0.6 times with a matrix unit (AMX), whose
   * sums have another order and are as exact. Takes `packed` bytes of triplet_memory more, and loading reads all of the file.
   */
  int32_t packed_weights;
  /**
   * 0.
   */
  uint32_t reserved;
} triplet_model_options;

/**
 * A model in the caller's memory. Fill it with `triplet_model_bytes_init`.
 */
typedef struct triplet_model_bytes {
  /**
   * sizeof(triplet_model_bytes).
   */
  uint32_t struct_size;
  /**
   * 0; keeps what follows in place.
   */
  uint32_t reserved;
  /**
   * The bytes of config.json; read during the call only.
   */
  const uint8_t *config;
  /**
   * Their number.
   */
  size_t config_len;
  /**
   * The bytes of tokenizer.json; read during the call only.
   */
  const uint8_t *tokenizer;
  /**
   * Their number.
   */
  size_t tokenizer_len;
  /**
   * The bytes of model.safetensors, of any alignment; borrowed until `release` is called, and never changed until then.
   */
  const uint8_t *weights;
  /**
   * Their number.
   */
  size_t weights_len;
  /**
   * Called once, when nothing uses `weights` any more: on the thread that destroys the last of the model, its sessions
   * and its images, or before `triplet_model_from_bytes` returns where that fails after it has looked at its arguments.
   * NULL where the bytes live as long as the program. It must not throw.
   */
  void (*release)(void *user_data);
  /**
   * Passed to `release`.
   */
  void *user_data;
} triplet_model_bytes;

/**
 * A decoding type: one bit, so that sets of them can be named.
 */
typedef uint32_t triplet_unit;

/**
 * What a model is.
 */
typedef struct triplet_model_info {
  /**
   * sizeof(triplet_model_info), set by the caller.
   */
  uint32_t struct_size;
  /**
   * The units that answers may decode to, as bits.
   */
  triplet_unit units;
  /**
   * Threads that the model computes on; 1 of a GPU's.
   */
  uint32_t threads;
  /**
   * Tokens of the vocabulary.
   */
  uint32_t vocab_size;
  /**
   * What a reader should know but what keeps nothing from working, for `triplet_model_warning`.
   */
  size_t warning_count;
} triplet_model_info;

/**
 * How a session keeps keys and values.
 */
typedef int32_t triplet_cache;

/**
 * What is asked for. Fill it with `triplet_memory_bounds_init`.
 */
typedef struct triplet_memory_bounds {
  /**
   * sizeof(triplet_memory_bounds).
   */
  uint32_t struct_size;
  /**
   * Tokens of prompt and answer together, the rows of the picture and of visual prompts included; 0 for as many as the
   * model takes.
   */
  uint32_t positions;
  /**
   * Width of the pictures in pixels.
   */
  size_t width;
  /**
   * Height of the pictures in pixels.
   */
  size_t height;
  /**
   * Most visual prompts of a question, at most 64.
   */
  size_t visual_prompts;
  /**
   * How the session keeps keys and values.
   */
  triplet_cache cache;
  /**
   * 0.
   */
  uint32_t reserved;
} triplet_memory_bounds;

/**
 * Bytes. `image` and `session` are exact: that much memory is enough for every picture and question within the bounds,
 * with the threads of the model, on this machine; 64 bytes less are not.
 */
typedef struct triplet_memory {
  /**
   * sizeof(triplet_memory), set by the caller.
   */
  uint32_t struct_size;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Weights that the model uses. They are used where they lie: in the memory map, whose pages the system reads and drops
   * as it likes, or in the caller's bytes; with TRIPLET_ACCESS_READ the whole file is in memory.
   */
  size_t weights;
  /**
   * For `memory` of triplet_image_view: the image with the scratch of looking at it.
   */
  size_t image;
  /**
   * What of `image` holds the image afterwards.
   */
  size_t image_kept;
  /**
   * For `memory` of triplet_session_options: key-value cache, hidden states, and the scratch of every question.
   */
  size_t session;
  /**
   * What of `session` is the key-value cache.
   */
  size_t kv_cache;
  /**
   * Every mask and every depth map of a reply.
   */
  size_t map;
  /**
   * For `memory` of triplet_ask_options: the masks and depth maps of the reply with the most targets. Enough for every
   * answer; who expects fewer maps can lend less, a multiple of TRIPLET_MEMORY_ALIGNMENT for each.
   */
  size_t reply;
  /**
   * Copies of weights that are made when the model is loaded and stay, where `packed_weights` of triplet_model_options asks for
   * them.
   */
  size_t packed;
} triplet_memory;

/**
 * Order of the bytes of a pixel; 8 bits a channel.
 */
typedef int32_t triplet_pixel_format;

/**
 * A picture in the caller's memory, read during the call only. Fill it with `triplet_image_view_init`.
 */
typedef struct triplet_image_view {
  /**
   * sizeof(triplet_image_view).
   */
  uint32_t struct_size;
  /**
   * Order of the bytes of a pixel.
   */
  triplet_pixel_format format;
  /**
   * The first pixel of the uppermost row.
   */
  const uint8_t *pixels;
  /**
   * Bytes from `pixels` on that may be read; the last row may end before its stride does.
   */
  size_t size;
  /**
   * Pixels per row, at most 32768.
   */
  size_t width;
  /**
   * Rows, at most 32768.
   */
  size_t height;
  /**
   * Bytes from one row to the next; 0 for rows without gaps.
   */
  size_t stride;
  /**
   * Memory for the image, `image` bytes of triplet_memory that begin at a multiple of TRIPLET_MEMORY_ALIGNMENT: the
   * library's alone until the image is destroyed and no call that was given it runs any more. NULL for memory of the
   * allocator.
   */
  void *memory;
  /**
   * Bytes of `memory`.
   */
  size_t memory_size;
} triplet_image_view;

/**
 * What is asked for.
 */
typedef int32_t triplet_task;

/**
 * What an answer is made of: one bit, so that sets of them can be named.
 */
typedef uint32_t triplet_element;

/**
 * Kind of a visual prompt.
 */
typedef int32_t triplet_prompt_kind;

/**
 * A box in pixels of the original picture, the corner with the smaller coordinates first. Never changes.
 */
typedef struct triplet_box {
  /**
   * Left.
   */
  float x0;
  /**
   * Upper.
   */
  float y0;
  /**
   * Right.
   */
  float x1;
  /**
   * Lower.
   */
  float y1;
} triplet_box;

/**
 * A point in pixels of the original picture: x to the right, y down, (0, 0) the upper left corner of the upper left
 * pixel. Never changes.
 */
typedef struct triplet_point {
  /**
   * To the right.
   */
  float x;
  /**
   * Down.
   */
  float y;
} triplet_point;

/**
 * A visual prompt; it stands for one `[VPT]` of the question. Zero what its kind does not use. Never changes.
 */
typedef struct triplet_prompt {
  /**
   * What it is.
   */
  triplet_prompt_kind kind;
  /**
   * Of a scribble, in pixels; 0 for 20/336 of the picture's longer side.
   */
  float width;
  /**
   * Of a point or a box, in pixels.
   */
  struct triplet_box area;
  /**
   * Of a scribble, 1 to 4096 points in pixels.
   */
  const struct triplet_point *points;
  /**
   * Their number.
   */
  size_t point_count;
  /**
   * Of a mask: one byte per pixel of the picture, row-major, rows without gaps.
   */
  const uint8_t *mask;
  /**
   * Bytes of `mask`.
   */
  size_t mask_size;
} triplet_prompt;

/**
 * How an answer is kept well-formed.
 */
typedef int32_t triplet_guide;

/**
 * One line of a plan: what is decoded, as what, how often. Never changes.
 */
typedef struct triplet_plan_item {
  /**
   * The concept, for example "red mug".
   */
  const char *name;
  /**
   * The unit's word: "box", "mask", "keypoint" or "depth"; a model may write anything here.
   */
  const char *unit;
  /**
   * Number of targets.
   */
  size_t count;
} triplet_plan_item;

/**
 * What an event tells.
 */
typedef int32_t triplet_event_kind;

/**
 * News of an answer; valid, with what it points to, during the callback only.
 */
typedef struct triplet_event {
  /**
   * Size of the struct as the library knows it; may grow.
   */
  uint32_t struct_size;
  /**
   * What it tells.
   */
  triplet_event_kind kind;
  /**
   * UTF-8, a NUL behind it; empty while a character is unfinished.
   */
  const char *text;
  /**
   * Bytes of `text`.
   */
  size_t text_len;
  /**
   * The token; 0 for other kinds.
   */
  uint32_t token;
  /**
   * The unit; none where the model wrote none, or for other kinds.
   */
  triplet_unit unit;
  /**
   * Targets of the phrase so far; 0 for other kinds.
   */
  size_t count;
} triplet_event;

/**
 * Told every token and every triplet, on the thread that asks, in the host's floating-point state. Any other value than 0
 * stops the answer, as `triplet_session_cancel` does. It may use other sessions, but not the one that asks, and must not
 * throw.
 */
typedef int32_t (*triplet_event_fn)(void *user_data, const struct triplet_event *event);

/**
 * What is asked and how. Fill it with `triplet_ask_options_init`. All it points to is read during the call only.
 */
typedef struct triplet_ask_options {
  /**
   * sizeof(triplet_ask_options).
   */
  uint32_t struct_size;
  /**
   * What is asked for; TRIPLET_TASK_VQA is any question in words.
   */
  triplet_task task;
  /**
   * The question in UTF-8, one `[VPT]` for each visual prompt.
   */
  const char *question;
  /**
   * What the answer is made of, as bits; 0 for what is usual for the task.
   */
  triplet_element elements;
  /**
   * What targets are decoded to, as bits; 0 for what is usual for the task.
   */
  triplet_unit units;
  /**
   * Visual prompts in the order of the `[VPT]` of the question; at most 64.
   */
  const struct triplet_prompt *prompts;
  /**
   * Their number.
   */
  size_t prompt_count;
  /**
   * Instead of `question`, the whole prompt as the language model reads it: token ids,
   * TRIPLET_PROMPT_ID_IMAGE, TRIPLET_PROMPT_ID_VISUAL_PROMPT. NULL unless that is wanted.
   */
  const int32_t *prompt_ids;
  /**
   * Their number.
   */
  size_t prompt_id_count;
  /**
   * How the answer is kept well-formed.
   */
  triplet_guide guide;
  /**
   * Not 0: the answer begins with its plan (VD-CoT). Without guidance the model decides.
   */
  int32_t vd_cot;
  /**
   * For TRIPLET_GUIDE_PLANNED; NULL otherwise.
   */
  const struct triplet_plan_item *plan;
  /**
   * Items of `plan`.
   */
  size_t plan_count;
  /**
   * 0 takes the likeliest token; more draws, the more freely the larger it is.
   */
  float temperature;
  /**
   * Draws among the likeliest tokens that together reach this probability, above 0 and at most 1.
   */
  float top_p;
  /**
   * Start of the random sequence; the same seed gives the same answer.
   */
  uint64_t seed;
  /**
   * Draws among this many likeliest tokens; 0 for all.
   */
  uint32_t top_k;
  /**
   * Most tokens of the answer, the end-of-text token included.
   */
  uint32_t max_new_tokens;
  /**
   * A pixel belongs to a mask where its probability is above this.
   */
  float mask_threshold;
  /**
   * Milliseconds for reading the prompt and writing the answer, 0 for no limit; what is complete by then is decoded, which
   * comes on top. Looked at when `triplet_session_cancel` is.
   */
  uint32_t time_limit_ms;
  /**
   * Told every token and every triplet; may be NULL.
   */
  triplet_event_fn on_event;
  /**
   * Passed to `on_event`.
   */
  void *user_data;
  /**
   * Memory for the masks and depth maps of the reply, `reply` bytes of triplet_memory that begin at a multiple of
   * TRIPLET_MEMORY_ALIGNMENT: the library's alone until the reply is destroyed and no call that was given it runs any
   * more. An answer for which it does not suffice is TRIPLET_OUT_OF_MEMORY. NULL for memory of the allocator.
   */
  void *memory;
  /**
   * Bytes of `memory`.
   */
  size_t memory_size;
} triplet_ask_options;

/**
 * Why an answer ended.
 */
typedef int32_t triplet_finish;

/**
 * An answer as a whole.
 */
typedef struct triplet_reply_info {
  /**
   * sizeof(triplet_reply_info), set by the caller.
   */
  uint32_t struct_size;
  /**
   * Why the answer ended.
   */
  triplet_finish finish;
  /**
   * What is wrong with the answer, as bits; 0 for a well-formed one.
   */
  uint32_t flags;
  /**
   * Not 0: the answer has a plan.
   */
  int32_t has_plan;
  /**
   * The answer as the model wrote it, plan and special tokens included: UTF-8, a NUL behind it.
   */
  const char *text;
  /**
   * Bytes of `text`.
   */
  size_t text_len;
  /**
   * The answer in plain words: phrases in place, plan, units and targets taken out.
   */
  const char *sentence;
  /**
   * Bytes of `sentence`.
   */
  size_t sentence_len;
  /**
   * The tokens of the answer, the end-of-text token included where it was written.
   */
  const uint32_t *ids;
  /**
   * Their number.
   */
  size_t id_count;
  /**
   * Triplets, for `triplet_reply_get_entry`. "Nothing found" is an answer with none.
   */
  size_t triplet_count;
  /**
   * Lines of the plan, for `triplet_reply_get_plan_item`.
   */
  size_t plan_count;
  /**
   * Width of the picture in pixels.
   */
  size_t width;
  /**
   * Height of the picture in pixels.
   */
  size_t height;
} triplet_reply_info;

/**
 * What a triplet's target is.
 */
typedef int32_t triplet_target;

/**
 * One triplet: concept, decoding type, and what its target is.
 */
typedef struct triplet_entry {
  /**
   * sizeof(triplet_entry), set by the caller.
   */
  uint32_t struct_size;
  /**
   * The decoding type; none where the model wrote none or an unknown one.
   */
  triplet_unit unit;
  /**
   * The concept, for example "red mug": UTF-8, a NUL behind it.
   */
  const char *phrase;
  /**
   * Bytes of `phrase`.
   */
  size_t phrase_len;
  /**
   * Targets of one phrase share this number.
   */
  size_t group;
  /**
   * Place of the target within its group, from 0.
   */
  size_t index;
  /**
   * Geometric mean of the probabilities of the triplet's tokens, 0 to 1; NaN for an answer that was given.
   */
  float score;
  /**
   * What is wrong with the group, as bits.
   */
  uint32_t flags;
  /**
   * What the target is, and with it which function lends it.
   */
  triplet_target target;
  /**
   * 0.
   */
  uint32_t reserved;
} triplet_entry;

/**
 * A mask of the picture's size.
 */
typedef struct triplet_mask {
  /**
   * sizeof(triplet_mask), set by the caller.
   */
  uint32_t struct_size;
  /**
   * A pixel belongs to the mask where its probability is above this.
   */
  float threshold;
  /**
   * Pixels per row.
   */
  size_t width;
  /**
   * Rows.
   */
  size_t height;
  /**
   * Probability of every pixel, row-major, rows without gaps.
   */
  const float *probabilities;
} triplet_mask;

/**
 * One joint. Never changes.
 */
typedef struct triplet_keypoint {
  /**
   * To the right, in pixels.
   */
  float x;
  /**
   * Down, in pixels.
   */
  float y;
  /**
   * Probability that the joint is visible, 0 to 1.
   */
  float score;
  /**
   * 1 where the joint is visible, 0 where it is hidden.
   */
  uint32_t visible;
} triplet_keypoint;

/**
 * A person's joints.
 */
typedef struct triplet_keypoints {
  /**
   * sizeof(triplet_keypoints), set by the caller.
   */
  uint32_t struct_size;
  /**
   * The person's box.
   */
  struct triplet_box area;
  /**
   * The joints in COCO-17 order.
   */
  struct triplet_keypoint points[TRIPLET_JOINTS];
} triplet_keypoints;

/**
 * What a depth map's values are in.
 */
typedef int32_t triplet_depth_unit;

/**
 * A depth map of the picture's size.
 */
typedef struct triplet_depth {
  /**
   * sizeof(triplet_depth), set by the caller.
   */
  uint32_t struct_size;
  /**
   * What the values are in.
   */
  triplet_depth_unit unit;
  /**
   * Pixels per row.
   */
  size_t width;
  /**
   * Rows.
   */
  size_t height;
  /**
   * Depth of every pixel, row-major, rows without gaps; NaN where undefined.
   */
  const float *values;
} triplet_depth;

/**
 * How a session begins. Fill it with `triplet_session_options_init`.
 */
typedef struct triplet_session_options {
  /**
   * sizeof(triplet_session_options).
   */
  uint32_t struct_size;
  /**
   * Tokens of prompt and answer together, the rows of the picture and of visual prompts included; 0 for as many as the
   * model takes. The key-value cache has room for so many from the start.
   */
  uint32_t positions;
  /**
   * Memory for the session, `session` bytes of triplet_memory that begin at a multiple of TRIPLET_MEMORY_ALIGNMENT: the
   * library's alone until the session is destroyed. A question for which it does not suffice is TRIPLET_OUT_OF_MEMORY,
   * and the session goes on. NULL for memory of the allocator.
   */
  void *memory;
  /**
   * Bytes of `memory`.
   */
  size_t memory_size;
  /**
   * How keys and values are kept. A device that has no such cache refuses it: TRIPLET_INVALID_ARGUMENT.
   */
  triplet_cache cache;
  /**
   * 0.
   */
  uint32_t reserved;
} triplet_session_options;

/**
 * It worked.
 */
#define TRIPLET_OK 0

/**
 * An argument is NULL, misaligned, out of range or does not fit the others; the message names it.
 */
#define TRIPLET_INVALID_ARGUMENT 1

/**
 * A handle that was destroyed, is of another kind or never came from this library.
 */
#define TRIPLET_INVALID_HANDLE 2

/**
 * A text is not UTF-8.
 */
#define TRIPLET_INVALID_UTF8 3

/**
 * The session is at work: on another thread, or further up on this one.
 */
#define TRIPLET_BUSY 4

/**
 * A file could not be read.
 */
#define TRIPLET_IO 5

/**
 * A file is not what its format says.
 */
#define TRIPLET_FORMAT 6

/**
 * A field of config.json is missing or wrong.
 */
#define TRIPLET_CONFIG 7

/**
 * A tensor is missing, misshapen, of a wrong type or not finite.
 */
#define TRIPLET_TENSOR 8

/**
 * A stated limit is exceeded.
 */
#define TRIPLET_LIMIT 9

/**
 * Memory could not be had.
 */
#define TRIPLET_OUT_OF_MEMORY 10

/**
 * The model has no module that the call needs.
 */
#define TRIPLET_MISSING_MODULE 11

/**
 * The plan cannot be met.
 */
#define TRIPLET_PLAN 12

/**
 * A module of the model produced a NaN or an infinity.
 */
#define TRIPLET_NON_FINITE 13

/**
 * The progress callback stopped the loading.
 */
#define TRIPLET_CANCELLED 14

/**
 * The triplet has no target of this kind.
 */
#define TRIPLET_NO_TARGET 15

/**
 * The buffer is too small; the size that is needed was written.
 */
#define TRIPLET_BUFFER_TOO_SMALL 16

/**
 * A defect of the library. A session that was at work refuses to work on; destroy it.
 */
#define TRIPLET_INTERNAL 17

/**
 * A GPU or its driver refused, or there is none. Where the message says that the device is lost, destroy the model, its sessions
 * and its images, and load the model on the CPU.
 */
#define TRIPLET_DEVICE 18

/**
 * None.
 */
#define TRIPLET_UNIT_NONE 0

/**
 * A box in pixels.
 */
#define TRIPLET_UNIT_BOX 1

/**
 * A mask of the picture's size.
 */
#define TRIPLET_UNIT_MASK 2

/**
 * The 17 COCO keypoints of one person.
 */
#define TRIPLET_UNIT_KEYPOINT 4

/**
 * A depth map of the whole picture.
 */
#define TRIPLET_UNIT_DEPTH 8

/**
 * Phrases.
 */
#define TRIPLET_ELEMENT_PHRASE 1

/**
 * A whole sentence.
 */
#define TRIPLET_ELEMENT_SENTENCE 2

/**
 * Units with targets.
 */
#define TRIPLET_ELEMENT_UNIT 4

/**
 * An answer in words: any question.
 */
#define TRIPLET_TASK_VQA 0

/**
 * Boxes of everything, of one class, or of a prompted region.
 */
#define TRIPLET_TASK_DETECTION 1

/**
 * Masks of everything, of one class, or of a prompted region.
 */
#define TRIPLET_TASK_SEGMENTATION 2

/**
 * The box that an expression refers to.
 */
#define TRIPLET_TASK_GROUNDING_DETECTION 3

/**
 * The mask that an expression refers to.
 */
#define TRIPLET_TASK_GROUNDING_SEGMENTATION 4

/**
 * A caption whose phrases are grounded with boxes.
 */
#define TRIPLET_TASK_GCG_DETECTION 5

/**
 * A caption whose phrases are grounded with masks.
 */
#define TRIPLET_TASK_GCG_SEGMENTATION 6

/**
 * Keypoints of every person.
 */
#define TRIPLET_TASK_KEYPOINT_DETECTION 7

/**
 * Keypoints of the person that an expression or a prompted region refers to.
 */
#define TRIPLET_TASK_GROUNDING_KEYPOINTS 8

/**
 * The depth map of the picture.
 */
#define TRIPLET_TASK_DEPTH 9

/**
 * There is none: the unit has no head, the head has no slot left or the answer was cancelled.
 */
#define TRIPLET_TARGET_NONE 0

/**
 * A box.
 */
#define TRIPLET_TARGET_BOX 1

/**
 * A mask.
 */
#define TRIPLET_TARGET_MASK 2

/**
 * 17 keypoints.
 */
#define TRIPLET_TARGET_KEYPOINTS 3

/**
 * A depth map.
 */
#define TRIPLET_TARGET_DEPTH 4

/**
 * Memory-mapped: read when they are used, and shared between processes. The file must not be changed or cut short while
 * anything loaded from it is alive; replace it by renaming another file over it.
 */
#define TRIPLET_ACCESS_MAP 0

/**
 * Read whole.
 */
#define TRIPLET_ACCESS_READ 1

/**
 * As they were computed.
 */
#define TRIPLET_CACHE_F32 0

/**
 * The nearest halves: half the memory.
 */
#define TRIPLET_CACHE_F16 1

/**
 * Integers of eight bits with a scale for every position and head: about a quarter of the memory.
 */
#define TRIPLET_CACHE_INT8 2

/**
 * Red, green, blue (ROS: rgb8).
 */
#define TRIPLET_PIXEL_FORMAT_RGB8 0

/**
 * Blue, green, red (ROS: bgr8; OpenCV).
 */
#define TRIPLET_PIXEL_FORMAT_BGR8 1

/**
 * Red, green, blue, alpha, which is dropped (ROS: rgba8).
 */
#define TRIPLET_PIXEL_FORMAT_RGBA8 2

/**
 * Blue, green, red, alpha, which is dropped (ROS: bgra8).
 */
#define TRIPLET_PIXEL_FORMAT_BGRA8 3

/**
 * One grey value (ROS: mono8).
 */
#define TRIPLET_PIXEL_FORMAT_GRAY8 4

/**
 * The disc around (area.x0, area.y0) with a radius of 10/336 of the picture's longer side.
 */
#define TRIPLET_PROMPT_POINT 0

/**
 * The rectangle `area`; what lies outside the picture is cut off.
 */
#define TRIPLET_PROMPT_BOX 1

/**
 * A stroke of `width` pixels along the polyline `points`, with round ends.
 */
#define TRIPLET_PROMPT_SCRIBBLE 2

/**
 * The pixels where `mask` is not 0.
 */
#define TRIPLET_PROMPT_MASK 3

/**
 * A token was chosen: `token`, and in `text` what became complete with it.
 */
#define TRIPLET_EVENT_TOKEN 0

/**
 * A triplet is known: `text` is the phrase, `unit` its unit, `count` the number of its targets so far. The target itself
 * comes with the reply, for targets are decoded together.
 */
#define TRIPLET_EVENT_TRIPLET 1

/**
 * Not at all.
 */
#define TRIPLET_GUIDE_OFF 0

/**
 * Delimiters, units that have a head, indices, no more targets than the head has slots.
 */
#define TRIPLET_GUIDE_STRUCTURAL 1

/**
 * Exactly the items of `plan` in order, with free text between; without `plan`, of the plan that the model writes first.
 */
#define TRIPLET_GUIDE_PLANNED 2

/**
 * The model wrote the end-of-text token.
 */
#define TRIPLET_FINISH_END_OF_TEXT 0

/**
 * The budget of new tokens or the context is used up.
 */
#define TRIPLET_FINISH_LENGTH 1

/**
 * It was cancelled; no triplet has a target.
 */
#define TRIPLET_FINISH_CANCELLED 2

/**
 * The time limit passed; what was complete by then is decoded.
 */
#define TRIPLET_FINISH_TIME_LIMIT 3

/**
 * It was given by the caller.
 */
#define TRIPLET_FINISH_GIVEN 4

/**
 * No unit, 0 to 1; larger is farther.
 */
#define TRIPLET_DEPTH_RELATIVE 0

/**
 * Metres along the optical axis (REP-118).
 */
#define TRIPLET_DEPTH_METRE 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of the library that is linked, for example "0.1.0". Never NULL; lives as long as the program.
 *
 * Any thread.
 */
TRIPLET_API const char *triplet_version(void);

/**
 * `TRIPLET_ABI` of the library that is linked; a program compares it with that of its header.
 *
 * Any thread.
 */
TRIPLET_API uint32_t triplet_abi(void);

/**
 * Name of a status, for example "TRIPLET_BUSY"; "unknown status" for a number that is none. Never NULL; lives as long
 * as the program.
 *
 * Any thread.
 */
TRIPLET_API const char *triplet_status_name(triplet_status status);

/**
 * Why the last call that failed on this thread failed, naming the argument, file, field, tensor or module; empty where
 * none has failed. Never NULL; valid until the next call on this thread that fails.
 *
 * Any thread.
 */
TRIPLET_API const char *triplet_last_error(void);

/**
 * Has all of the library's memory come from the host, for the whole process and for good. It must be called before any
 * other function of the library that allocates, best before all others; TRIPLET_BUSY where that is too late. Where
 * `allocate` returns NULL for anything that grows with picture, model or context (activations, scratch, key-value cache,
 * masks and depth maps), the call is TRIPLET_OUT_OF_MEMORY; where for anything small (texts, lists, handles), the process
 * is aborted. What the C library allocates by itself (threads, files) does not pass through here.
 *
 * Any thread. TRIPLET_BUSY, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `allocator` can be read; its functions keep their word until the process ends.
 */
TRIPLET_API
triplet_status triplet_set_allocator(const struct triplet_allocator *allocator);

/**
 * Fills options with the defaults. `struct_size` is sizeof(triplet_model_options).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `options`.
 */
TRIPLET_API triplet_status triplet_model_options_init(struct triplet_model_options *options, size_t struct_size);

/**
 * Fills a description of bytes with the defaults. `struct_size` is sizeof(triplet_model_bytes).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `bytes`.
 */
TRIPLET_API triplet_status triplet_model_bytes_init(struct triplet_model_bytes *bytes, size_t struct_size);

/**
 * Opens the model directory `dir` (a path in UTF-8): config.json, tokenizer.json and model.safetensors or its shards.
 * `options` may be NULL. `*model` becomes a handle to destroy, or NULL where the call fails.
 *
 * Any thread. TRIPLET_IO, TRIPLET_FORMAT, TRIPLET_CONFIG, TRIPLET_TENSOR, TRIPLET_LIMIT, TRIPLET_CANCELLED,
 * TRIPLET_OUT_OF_MEMORY, TRIPLET_INVALID_ARGUMENT, TRIPLET_INVALID_UTF8, TRIPLET_DEVICE.
 *
 * The caller promises:
 * `dir` is a C string; `options` is NULL or valid; a handle can be written to `model`.
 */
TRIPLET_API
triplet_status triplet_model_open(const char *dir,
                                  const struct triplet_model_options *options,
                                  struct triplet_model **model);

/**
 * Loads a model from the caller's memory; the weights are used where they lie. `options` may be NULL. `*model` becomes a
 * handle to destroy, or NULL where the call fails.
 *
 * Any thread. As `triplet_model_open`, but for TRIPLET_IO.
 *
 * The caller promises:
 * `bytes` and what it points to are valid as it says; `options` is NULL or valid; a handle can be written to `model`.
 */
TRIPLET_API
triplet_status triplet_model_from_bytes(const struct triplet_model_bytes *bytes,
                                        const struct triplet_model_options *options,
                                        struct triplet_model **model);

/**
 * Destroys the handle and sets it to NULL; NULL is left alone. Sessions and images of the model work on.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A handle can be read from and written to `model`.
 */
TRIPLET_API triplet_status triplet_model_destroy(struct triplet_model **model);

/**
 * Says what a model is. The caller sets `info->struct_size`.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `info` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API triplet_status triplet_model_get_info(const struct triplet_model *model, struct triplet_model_info *info);

/**
 * Warning number `index`, from 0: an unknown key of config.json, a tensor that is not used. `*warning` is borrowed from
 * the model and valid until its handle is destroyed.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A pointer can be written to `warning`.
 */
TRIPLET_API triplet_status triplet_model_warning(const struct triplet_model *model, size_t index, const char **warning);

/**
 * Where a model computes, in words: "cuda:0 (" and the GPU's name, "cpu", or, where "auto" found no GPU, "cpu (no GPU: " and the
 * reason. `*device` is borrowed from the model and valid until its handle is destroyed.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A pointer can be written to `device`.
 */
TRIPLET_API
triplet_status triplet_model_device(const struct triplet_model *model,
                                    const char **device);

/**
 * Handles of any kind that were given out and not destroyed, to find leaks.
 *
 * Any thread.
 */
TRIPLET_API size_t triplet_live_handles(void);

/**
 * Fills bounds with the defaults: as many positions as the model takes, a picture of 640x480, no visual prompts.
 * `struct_size` is sizeof(triplet_memory_bounds).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `bounds`.
 */
TRIPLET_API triplet_status triplet_memory_bounds_init(struct triplet_memory_bounds *bounds, size_t struct_size);

/**
 * Says how much memory the model of the directory `dir` would take on the CPU with these options, without reading its weights. The
 * caller sets `memory->struct_size`; `options` and `bounds` may be NULL.
 *
 * Any thread. As `triplet_model_open`.
 *
 * The caller promises:
 * `dir` is a C string; `options` and `bounds` are NULL or valid; `memory` can be read and written as far as its
 * `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_memory_query(const char *dir,
                                    const struct triplet_model_options *options,
                                    const struct triplet_memory_bounds *bounds,
                                    struct triplet_memory *memory);

/**
 * Says how much memory a model takes, which must be one that computes on the CPU. The caller sets `memory->struct_size`;
 * `bounds` may be NULL.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_LIMIT.
 *
 * The caller promises:
 * `bounds` is NULL or valid; `memory` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_model_get_memory(const struct triplet_model *model,
                                        const struct triplet_memory_bounds *bounds,
                                        struct triplet_memory *memory);

/**
 * Fills a view with the defaults. `struct_size` is sizeof(triplet_image_view).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `view`.
 */
TRIPLET_API triplet_status triplet_image_view_init(struct triplet_image_view *view, size_t struct_size);

/**
 * Looks at a picture. `*image` becomes a handle to destroy, or NULL where the call fails.
 *
 * Any thread, several at once. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_LIMIT, TRIPLET_NON_FINITE,
 * TRIPLET_OUT_OF_MEMORY.
 *
 * The caller promises:
 * `view` and its pixels are valid as it says; a handle can be written to `image`.
 */
TRIPLET_API
triplet_status triplet_image_create(const struct triplet_model *model,
                                    const struct triplet_image_view *view,
                                    struct triplet_image **image);

/**
 * Width and height of the picture in pixels.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * Sizes can be written to `width` and `height`.
 */
TRIPLET_API triplet_status triplet_image_size(const struct triplet_image *image, size_t *width, size_t *height);

/**
 * Destroys the handle and sets it to NULL; NULL is left alone. Questions about it that are being answered are not
 * disturbed.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A handle can be read from and written to `image`.
 */
TRIPLET_API triplet_status triplet_image_destroy(struct triplet_image **image);

/**
 * Fills options with the defaults: any question in words, its plan first, structurally guided, the likeliest tokens, at
 * most 512. `struct_size` is sizeof(triplet_ask_options).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `options`.
 */
TRIPLET_API triplet_status triplet_ask_options_init(struct triplet_ask_options *options, size_t struct_size);

/**
 * Says what the answer is as a whole. The caller sets `info->struct_size`. The texts and ids are borrowed from the reply.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `info` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_reply_get_info(const struct triplet_reply *reply,
                                      struct triplet_reply_info *info);

/**
 * Triplet number `index`, from 0. The caller sets `entry->struct_size`. The phrase is borrowed from the reply.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `entry` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_reply_get_entry(const struct triplet_reply *reply,
                                       size_t index,
                                       struct triplet_entry *entry);

/**
 * Line number `index` of the plan, from 0. The texts are borrowed from the reply.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `item` can be written.
 */
TRIPLET_API
triplet_status triplet_reply_get_plan_item(const struct triplet_reply *reply,
                                           size_t index,
                                           struct triplet_plan_item *item);

/**
 * The box of triplet number `index`, in pixels of the picture.
 *
 * Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `area` can be written.
 */
TRIPLET_API
triplet_status triplet_reply_get_box(const struct triplet_reply *reply,
                                     size_t index,
                                     struct triplet_box *area);

/**
 * The mask of triplet number `index`. The caller sets `mask->struct_size`. The probabilities are borrowed from the reply.
 *
 * Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `mask` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_reply_get_mask(const struct triplet_reply *reply,
                                      size_t index,
                                      struct triplet_mask *mask);

/**
 * The joints of triplet number `index`, in pixels of the picture. The caller sets `keypoints->struct_size`.
 *
 * Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `keypoints` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_reply_get_keypoints(const struct triplet_reply *reply,
                                           size_t index,
                                           struct triplet_keypoints *keypoints);

/**
 * The depth map of triplet number `index`. The caller sets `depth->struct_size`. The values are borrowed from the reply.
 *
 * Any thread. TRIPLET_NO_TARGET, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `depth` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API
triplet_status triplet_reply_get_depth(const struct triplet_reply *reply,
                                       size_t index,
                                       struct triplet_depth *depth);

/**
 * The whole reply as JSON, UTF-8 with a NUL behind it; its keys are described in docs/c-api.md. `*json` is borrowed from
 * the reply. `length` may be NULL.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A pointer can be written to `json` and, unless it is NULL, a size to `length`.
 */
TRIPLET_API
triplet_status triplet_reply_get_json(const struct triplet_reply *reply,
                                      const char **json,
                                      size_t *length);

/**
 * Destroys the handle and sets it to NULL; NULL is left alone. What was borrowed from the reply is gone with it.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A handle can be read from and written to `reply`.
 */
TRIPLET_API triplet_status triplet_reply_destroy(struct triplet_reply **reply);

/**
 * Fills options with the defaults. `struct_size` is sizeof(triplet_session_options).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `options`.
 */
TRIPLET_API triplet_status triplet_session_options_init(struct triplet_session_options *options, size_t struct_size);

/**
 * Begins a conversation with the default options. `*session` becomes a handle to destroy, or NULL where the call fails.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_OUT_OF_MEMORY.
 *
 * The caller promises:
 * A handle can be written to `session`.
 */
TRIPLET_API triplet_status triplet_session_create(const struct triplet_model *model, struct triplet_session **session);

/**
 * Begins a conversation. `options` may be NULL. `*session` becomes a handle to destroy, or NULL where the call fails.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT, TRIPLET_OUT_OF_MEMORY.
 *
 * The caller promises:
 * `options` is NULL or valid, and its memory as it says; a handle can be written to `session`.
 */
TRIPLET_API
triplet_status triplet_session_create_with(const struct triplet_model *model,
                                           const struct triplet_session_options *options,
                                           struct triplet_session **session);

/**
 * Destroys the handle and sets it to NULL; NULL is left alone.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT; TRIPLET_BUSY while the session is at work.
 *
 * The caller promises:
 * A handle can be read from and written to `session`.
 */
TRIPLET_API triplet_status triplet_session_destroy(struct triplet_session **session);

/**
 * Answers a question about an image of the same model. An answer that was cancelled, met its time limit or found nothing
 * is a reply as well. `*reply` becomes a handle to destroy, or NULL where the call fails.
 *
 * One thread at a time for each session. TRIPLET_BUSY, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT,
 * TRIPLET_INVALID_UTF8, TRIPLET_LIMIT, TRIPLET_PLAN, TRIPLET_MISSING_MODULE, TRIPLET_NON_FINITE, TRIPLET_OUT_OF_MEMORY;
 * TRIPLET_FORMAT where `tokenizer.json` has a vocabulary but cannot encode text, which the first question finds.
 *
 * The caller promises:
 * `options` and what it points to are valid as it says; a handle can be written to `reply`.
 */
TRIPLET_API
triplet_status triplet_session_ask(struct triplet_session *session,
                                   const struct triplet_image *image,
                                   const struct triplet_ask_options *options,
                                   struct triplet_reply **reply);

/**
 * Runs the model over an answer that is given (teacher forcing) and decodes its triplets; scores are NaN. Of `options`
 * the prompt and `mask_threshold` count. `*reply` becomes a handle to destroy, or NULL where the call fails.
 *
 * One thread at a time for each session. As `triplet_session_ask`.
 *
 * The caller promises:
 * As `triplet_session_ask`; `count` ids can be read from `ids`.
 */
TRIPLET_API
triplet_status triplet_session_decode_tokens(struct triplet_session *session,
                                             const struct triplet_image *image,
                                             const struct triplet_ask_options *options,
                                             const uint32_t *ids,
                                             size_t count,
                                             struct triplet_reply **reply);

/**
 * Makes the answer that the session is writing end, and every later one at its start, until `triplet_session_resume` is
 * called. The reply then says TRIPLET_FINISH_CANCELLED and has no targets. The session looks whether it is cancelled before
 * every token and every 256 positions of the prompt; neither the pass that is running nor the decoding of targets is
 * interrupted, so that the longest delay is the longest of these three.
 *
 * Any thread, at any time. TRIPLET_INVALID_HANDLE.
 */
TRIPLET_API
triplet_status triplet_session_cancel(const struct triplet_session *session);

/**
 * Takes `triplet_session_cancel` back.
 *
 * Any thread, at any time. TRIPLET_INVALID_HANDLE.
 */
TRIPLET_API triplet_status triplet_session_resume(const struct triplet_session *session);

/**
 * The mask of triplet number `index` as bytes, row-major: `inside` for pixels of the mask (255 for ROS mono8), 0 for
 * others. `*needed` becomes the number of bytes, width * height; `buffer` may be NULL to ask for it alone.
 *
 * Any thread. TRIPLET_NO_TARGET, TRIPLET_BUFFER_TOO_SMALL, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `capacity` bytes can be written to `buffer`, unless it is NULL, and a size to `needed`, unless that is NULL.
 */
TRIPLET_API
triplet_status triplet_mask_bytes(const struct triplet_reply *reply,
                                  size_t index,
                                  uint8_t inside,
                                  uint8_t *buffer,
                                  size_t capacity,
                                  size_t *needed);

/**
 * The mask of triplet number `index` as packed bits: (width + 7) / 8 bytes a row, the leftmost pixel in the highest bit, as
 * `numpy.packbits(mask, axis=1)`. `*needed` becomes the number of bytes; `buffer` may be NULL to ask for it alone.
 *
 * Any thread. As `triplet_mask_bytes`.
 *
 * The caller promises:
 * As `triplet_mask_bytes`.
 */
TRIPLET_API
triplet_status triplet_mask_bits(const struct triplet_reply *reply,
                                 size_t index,
                                 uint8_t *buffer,
                                 size_t capacity,
                                 size_t *needed);

/**
 * COCO's run lengths of the mask of triplet number `index`: pixels in column-major order, the first run outside the mask
 * and perhaps 0 long, then inside and outside in turn. `*needed` becomes the number of runs; `buffer` may be NULL to ask
 * for it alone.
 *
 * Any thread. As `triplet_mask_bytes`.
 *
 * The caller promises:
 * As `triplet_mask_bytes`, `capacity` counted in runs.
 */
TRIPLET_API
triplet_status triplet_mask_runs(const struct triplet_reply *reply,
                                 size_t index,
                                 uint32_t *buffer,
                                 size_t capacity,
                                 size_t *needed);

/**
 * The same run lengths as the printable string that pycocotools calls `counts`, a NUL behind it. `*needed` becomes the
 * number of bytes, the NUL included; `buffer` may be NULL to ask for it alone.
 *
 * Any thread. As `triplet_mask_bytes`.
 *
 * The caller promises:
 * As `triplet_mask_bytes`.
 */
TRIPLET_API
triplet_status triplet_mask_coco_rle(const struct triplet_reply *reply,
                                     size_t index,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *needed);

/**
 * COCO's convention: `out` becomes x, y, width, height, in pixels.
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * A box can be read from `area` and four floats can be written to `out`.
 */
TRIPLET_API triplet_status triplet_box_to_xywh(const struct triplet_box *area, float *out);

/**
 * The convention of ROS vision_msgs and DETR: `out` becomes centre x, centre y, width, height, in pixels.
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * As `triplet_box_to_xywh`.
 */
TRIPLET_API triplet_status triplet_box_to_cxcywh(const struct triplet_box *area, float *out);

/**
 * Fractions of the picture: `out` becomes x0 / width, y0 / height, x1 / width, y1 / height.
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT, where a size is 0 too.
 *
 * The caller promises:
 * As `triplet_box_to_xywh`.
 */
TRIPLET_API
triplet_status triplet_box_to_normalised(const struct triplet_box *area,
                                         size_t width,
                                         size_t height,
                                         float *out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#if defined(TRIPLET_FINETUNE)
/**
 * A run of locality alignment in a folder. It can be killed at any instant: `triplet_align_start` on the same folder with
 * the same options goes on from the last checkpoint, and ends with the same bits. One thread at a time, any thread.
 */
typedef struct triplet_align triplet_align;

/**
 * How masks are drawn; every picture has a random mask, its complement and the mask that hides nothing.
 */
typedef int32_t triplet_align_masks;

/**
 * What is minimised.
 */
typedef int32_t triplet_align_loss;

/**
 * Ways to train, as bits of `flags`.
 */
typedef uint32_t triplet_align_flags;

/**
 * Where a run is. The caller sets `struct_size`.
 */
typedef struct triplet_align_info {
  /**
   * sizeof(triplet_align_info), set by the caller.
   */
  uint32_t struct_size;
  /**
   * Not 0 where the folder had a checkpoint, and the run went on from it.
   */
  int32_t resumed;
  /**
   * Updates so far, those before an interruption included.
   */
  uint64_t updates;
  /**
   * Updates in all.
   */
  uint64_t total;
  /**
   * Updates that the checkpoint on disk has.
   */
  uint64_t saved;
  /**
   * Pictures that could not be read and were passed over.
   */
  uint64_t skipped;
  /**
   * Mean loss of the last update's pictures, before it; NaN before the first update.
   */
  double loss;
  /**
   * The last loss on the pictures held back.
   */
  double validation;
} triplet_align_info;

/**
 * Told where the run is after every update, on the thread that steps, in the host's floating-point state. Any other value
 * than 0 ends the step, as `triplet_align_stop` does. It may stop the run, but make no other call with its handle, and must
 * not throw.
 */
typedef int32_t (*triplet_align_progress_fn)(void *user_data, const struct triplet_align_info *info);

/**
 * A run. Fill it with `triplet_align_options_init`, which gives the published recipe at 32 pictures an update; the four
 * paths and `updates` are the caller's to set. What changes the result must be the same when a run goes on: everything but
 * `threads`, `workers`, TRIPLET_ALIGN_RECOMPUTE and the callback.
 */
typedef struct triplet_align_options {
  /**
   * sizeof(triplet_align_options).
   */
  uint32_t struct_size;
  /**
   * Threads that the run computes on, as of triplet_model_options.
   */
  uint32_t threads;
  /**
   * Model directory whose `visual_encoder` is trained, a path in UTF-8 like the others; all are read during the call only.
   */
  const char *model;
  /**
   * Folder or pack of PNG and JPEG pictures.
   */
  const char *images;
  /**
   * Folder or pack of pictures to validate on; NULL for the last 2 % of `images` by the hash of their names.
   */
  const char *validation;
  /**
   * Folder of the run; made where it is missing.
   */
  const char *out;
  /**
   * Updates in all; not 0.
   */
  uint64_t updates;
  /**
   * Fixes everything that is random.
   */
  uint64_t seed;
  /**
   * Updates over which the learning rate rises from a tenth.
   */
  uint64_t warmup;
  /**
   * Updates between two validations; 0 for a tenth of the run.
   */
  uint64_t validate_every;
  /**
   * Pictures of an update.
   */
  uint32_t batch;
  /**
   * Passes that they are spread over; divides `batch`.
   */
  uint32_t parts;
  /**
   * Threads that decode pictures.
   */
  uint32_t workers;
  /**
   * Most pictures to validate on.
   */
  uint32_t validation_count;
  /**
   * Last blocks that the teacher lacks.
   */
  uint32_t skip_blocks;
  /**
   * Blocks of the decoder.
   */
  uint32_t decoder_layers;
  /**
   * How masks are drawn.
   */
  triplet_align_masks masks;
  /**
   * What is minimised.
   */
  triplet_align_loss loss;
  /**
   * What TRIPLET_ALIGN_MASKS_BERNOULLI and TRIPLET_ALIGN_MASKS_BLOCKWISE keep.
   */
  double masks_keep;
  /**
   * Largest learning rate; it falls to a tenth along half a cosine.
   */
  double rate;
  /**
   * Weight decay.
   */
  double decay;
  /**
   * Soft cap of the student's attention logits; 0 leaves it as its model is.
   */
  double soft_cap;
  /**
   * Decay of a moving average of the weights, which is then exported; 0 for none.
   */
  double ema;
  /**
   * Ways to train.
   */
  triplet_align_flags flags;
  /**
   * 0; keeps what follows in place.
   */
  uint32_t reserved;
  /**
   * Told of every update. May be NULL.
   */
  triplet_align_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *user_data;
} triplet_align_options;

/**
 * Every patch is kept with one probability, itself uniform over (0, 1).
 */
#define TRIPLET_ALIGN_MASKS_UNIFORM 0

/**
 * Every patch is kept with the probability `masks_keep`.
 */
#define TRIPLET_ALIGN_MASKS_BERNOULLI 1

/**
 * Rectangles until at least the share `masks_keep` of the patches is kept.
 */
#define TRIPLET_ALIGN_MASKS_BLOCKWISE 2

/**
 * Mean squared difference between prediction and target.
 */
#define TRIPLET_ALIGN_LOSS_MSE 0

/**
 * 1 less the mean cosine of the angle between them.
 */
#define TRIPLET_ALIGN_LOSS_COSINE 1

/**
 * Mean absolute difference.
 */
#define TRIPLET_ALIGN_LOSS_L1 2

/**
 * Squares at hidden patches alone.
 */
#define TRIPLET_ALIGN_LOSS_MASKED_MSE 3

/**
 * Squares at kept patches alone.
 */
#define TRIPLET_ALIGN_LOSS_UNMASKED_MSE 4

/**
 * Whole pictures, no augmentation.
 */
#define TRIPLET_ALIGN_NO_AUGMENT 1

/**
 * Masked image modelling in place of locality alignment.
 */
#define TRIPLET_ALIGN_MIM 2

/**
 * The target is the teacher's pooled vector; `skip_blocks` must be 0.
 */
#define TRIPLET_ALIGN_PREFIX_ONLY 4

/**
 * The encoder stays as it is and the decoder learns alone; there is no encoder to export then.
 */
#define TRIPLET_ALIGN_FREEZE_ENCODER 8

/**
 * The student's new head has a hidden layer.
 */
#define TRIPLET_ALIGN_MLP_HEAD 16

/**
 * Weight decay spares biases, norms and positions.
 */
#define TRIPLET_ALIGN_DECAY_MATRICES 32

/**
 * Keeps less of the forward pass in memory and computes it again. Changes no bit.
 */
#define TRIPLET_ALIGN_RECOMPUTE 64

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Fills options with the published recipe. `struct_size` is sizeof(triplet_align_options).
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `struct_size` bytes can be written to `options`.
 */
TRIPLET_API triplet_status triplet_align_options_init(struct triplet_align_options *options, size_t struct_size);

/**
 * Begins the run of a folder, or goes on with it where the folder has a checkpoint. A new run measures its targets,
 * validates and saves. `*run` becomes a handle to destroy, or NULL where the call fails.
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT naming the option, also one that is not what the checkpoint was made with,
 * TRIPLET_INVALID_UTF8, TRIPLET_IO, also where another process or handle has the folder, TRIPLET_FORMAT, TRIPLET_CONFIG,
 * TRIPLET_TENSOR, TRIPLET_LIMIT, TRIPLET_MISSING_MODULE, TRIPLET_NON_FINITE, TRIPLET_OUT_OF_MEMORY.
 *
 * The caller promises:
 * `options` and what it points to are valid as it says; a handle can be written to `run`.
 */
TRIPLET_API
triplet_status triplet_align_start(const struct triplet_align_options *options,
                                   struct triplet_align **run);

/**
 * Takes `updates` updates, or fewer where the run ends before. It saves nothing: `triplet_align_save` does. TRIPLET_OK
 * where they were taken or the run is at its end; TRIPLET_CANCELLED where it was stopped, after a whole update, and can go
 * on. After TRIPLET_NON_FINITE the checkpoint is the last good state, and the run is to be destroyed.
 *
 * One thread at a time for each run. TRIPLET_BUSY, TRIPLET_CANCELLED, TRIPLET_NON_FINITE, TRIPLET_INVALID_HANDLE,
 * TRIPLET_INVALID_ARGUMENT where no picture can be read.
 */
TRIPLET_API
triplet_status triplet_align_step(struct triplet_align *run,
                                  uint64_t updates);

/**
 * Makes the step that is running end after its update, and every later one at its start, until `triplet_align_resume` is
 * called.
 *
 * Any thread, at any time. TRIPLET_INVALID_HANDLE.
 */
TRIPLET_API
triplet_status triplet_align_stop(const struct triplet_align *run);

/**
 * Takes `triplet_align_stop` back.
 *
 * Any thread, at any time. TRIPLET_INVALID_HANDLE.
 */
TRIPLET_API triplet_status triplet_align_resume(const struct triplet_align *run);

/**
 * Says where a run is. The caller sets `info->struct_size`.
 *
 * One thread at a time for each run. TRIPLET_BUSY, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT.
 *
 * The caller promises:
 * `info` can be read and written as far as its `struct_size` says.
 */
TRIPLET_API triplet_status triplet_align_get_info(const struct triplet_align *run, struct triplet_align_info *info);

/**
 * Replaces the checkpoint of the run's folder: there is a whole one at every instant.
 *
 * One thread at a time for each run. TRIPLET_BUSY, TRIPLET_IO (a full disk; the checkpoint is the old one then),
 * TRIPLET_NON_FINITE, TRIPLET_INVALID_HANDLE.
 */
TRIPLET_API triplet_status triplet_align_save(struct triplet_align *run);

/**
 * Writes the encoder as it is now to the folder `aligned` in the run's folder: config.json and model.safetensors with the
 * tensors under `visual_encoder.`, which `triplet_align_plug_in` takes.
 *
 * One thread at a time for each run. TRIPLET_BUSY, TRIPLET_IO, TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT where the
 * encoder is frozen.
 */
TRIPLET_API
triplet_status triplet_align_export(struct triplet_align *run);

/**
 * Writes to the folder `out` the model directory `model` with its encoder replaced by that of the directory `encoder`; all
 * are paths in UTF-8. `triplet_model_open` takes the result.
 *
 * Any thread. TRIPLET_INVALID_ARGUMENT where `out` is one of the two, TRIPLET_INVALID_UTF8, TRIPLET_IO, TRIPLET_FORMAT,
 * TRIPLET_TENSOR, TRIPLET_MISSING_MODULE.
 *
 * The caller promises:
 * All three are C strings.
 */
TRIPLET_API
triplet_status triplet_align_plug_in(const char *encoder,
                                     const char *model,
                                     const char *out);

/**
 * Destroys the handle and sets it to NULL; NULL is left alone. Nothing is saved.
 *
 * Any thread. TRIPLET_INVALID_HANDLE, TRIPLET_INVALID_ARGUMENT; TRIPLET_BUSY while the run is at work.
 *
 * The caller promises:
 * A handle can be read from and written to `run`.
 */
TRIPLET_API triplet_status triplet_align_destroy(struct triplet_align **run);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TRIPLET_FINETUNE */

#endif  /* TRIPLET_H */
