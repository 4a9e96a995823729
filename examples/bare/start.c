/* A program without an operating system's libraries: its own start, memory, output and the four memory functions that
 * compilers call. On a board these are the linker script's and the serial port's; here they are two Linux system calls on
 * x86-64, so that the program can be run on the machine that builds it. The files come into the program by .incbin. */
#include <stddef.h>
#include <stdint.h>

struct bare_bytes {
    const uint8_t *data;
    size_t size;
};

struct bare_inputs {
    uint8_t *memory;
    size_t memory_size;
    struct bare_bytes config, weights, vocabulary, picture, questions;
};

int bare_ask(const struct bare_inputs *inputs);
size_t bare_memory_used(void);
void bare_write(const char *text, size_t size);
_Noreturn void bare_stop(void);
_Noreturn void bare_main(void);
_Noreturn void rust_eh_personality(void);
_Noreturn void _Unwind_Resume(void);

/* Bytes of a file, and a symbol behind its end. */
#define FILE_BYTES(name, path)                                                                                         \
    __asm__(".section .rodata\n.balign 64\n" #name ":\n.incbin \"" path "\"\n" #name "_end:\n.byte 0\n.text\n");       \
    extern const uint8_t name[], name##_end[];
FILE_BYTES(config, MODEL "/config.json")
FILE_BYTES(weights, MODEL "/model.safetensors")
FILE_BYTES(vocabulary, MODEL "/tokenizer.json")
FILE_BYTES(picture, INPUTS "/picture.bin")
FILE_BYTES(questions, INPUTS "/questions.bin")
#define BYTES(name)                                                                                                    \
    { name, (size_t)(name##_end - name) }

static uint8_t memory[MEMORY] __attribute__((aligned(64)));

static long system_call(long number, long first, const void *second, size_t third) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(first), "S"(second), "d"(third) : "rcx", "r11", "memory");
    return result;
}

static void write_to(int file, const char *text, size_t size) {
    while (size > 0) {
        long written = system_call(1, file, text, size);
        if (written <= 0)
            return;
        text += written;
        size -= (size_t)written;
    }
}

void bare_write(const char *text, size_t size) { write_to(1, text, size); }

static _Noreturn void leave(int status) {
    for (;;)
        system_call(60, status, NULL, 0);
}

void bare_stop(void) { leave(2); }

void *memcpy(void *to, const void *from, size_t size) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

void *memset(void *to, int byte, size_t size) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
    return start;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *bytes = to;
    const uint8_t *source = from;
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    while (size > 0) {
        size--;
        bytes[size] = source[size];
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t size) {
    const uint8_t *a = left, *b = right;
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

int bcmp(const void *left, const void *right, size_t size) { return memcmp(left, right, size); }

/* The `alloc` that comes compiled for a hosted target refers to these two; a program that aborts never calls them. */
_Noreturn void rust_eh_personality(void) { bare_stop(); }
_Noreturn void _Unwind_Resume(void) { bare_stop(); }

/* The stack pointer is a multiple of 16 where the system starts a program; a call makes it what the ABI wants. */
__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  call bare_main\n");

void bare_main(void) {
    static const char used[] = "bytes of memory used: ";
    const struct bare_inputs inputs = {
        memory, sizeof memory, BYTES(config), BYTES(weights), BYTES(vocabulary), BYTES(picture), BYTES(questions),
    };
    int status = bare_ask(&inputs);
    char digits[21];
    size_t first = sizeof digits, number = bare_memory_used();
    digits[--first] = '\n';
    do
        digits[--first] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    write_to(2, used, sizeof used - 1);
    write_to(2, digits + first, sizeof digits - first);
    leave(status);
}
