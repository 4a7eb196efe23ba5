/* SPDX-License-Identifier: MIT */

#include "sockets/task_files.h"

#include "common/procfs.h"
#include "sockets/btf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    FEW = 4096, /* open files of the machine: below, reading BTF takes longer than /proc */
    PART = 65536,
    PROGRAM_MAX = 64,
    OUT = INT16_MAX /* where a jump goes: to the end of the program */
};

/* ---- the program ---- */

enum wanted {
    FILE_INODE,
    INODE_NUMBER,
    INODE_SUPER,
    SUPER_DEVICE,
    TASK_PID,
    TASK_TGID,
    TASK_THREAD_PID,
    PID_LEVEL,
    PID_NUMBERS,
    WANTED
};

struct program {
    struct bpf_insn at[PROGRAM_MAX];
    unsigned count;
};

static void code(struct program *p, uint8_t operation, uint8_t to, uint8_t from, int offset,
                 int32_t value)
{
    struct bpf_insn *insn = &p->at[p->count++];

    *insn = (struct bpf_insn) { .code = operation, .off = (int16_t) offset, .imm = value };
    insn->dst_reg = to & 15u;
    insn->src_reg = from & 15u;
}

static void load8(struct program *p, uint8_t to, uint8_t from, int offset)
{
    code(p, BPF_LDX | BPF_MEM | BPF_DW, to, from, offset, 0);
}

static void load4(struct program *p, uint8_t to, uint8_t from, int offset)
{
    code(p, BPF_LDX | BPF_MEM | BPF_W, to, from, offset, 0);
}

static void move(struct program *p, uint8_t to, uint8_t from)
{
    code(p, BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}

static void set(struct program *p, uint8_t to, int32_t value)
{
    code(p, BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}

static void apply(struct program *p, uint8_t operation, uint8_t to, int32_t value)
{
    code(p, BPF_ALU64 | BPF_K | operation, to, 0, 0, value);
}

static void jump(struct program *p, uint8_t condition, uint8_t left, int32_t right, int offset)
{
    code(p, BPF_JMP | BPF_K | condition, left, 0, offset, right);
}

static void call(struct program *p, int32_t helper)
{
    code(p, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

/* struct bpf_iter__task_file: meta, task, fd and file, at 0, 8, 16 and 24. Threads have their
 * process's descriptors, mostly: only those that are the first of it are asked. */
static void choose_files(struct program *p, const struct btf_member_wanted *w, uint32_t sockfs,
                         uint32_t anonymous)
{
    move(p, 6, 1);
    load8(p, 7, 6, 8);
    jump(p, BPF_JEQ, 7, 0, OUT);
    load8(p, 1, 6, 24);
    jump(p, BPF_JEQ, 1, 0, OUT);
    load8(p, 8, 1, w[FILE_INODE].offset);
    load4(p, 9, 6, 16);
    load8(p, 1, 8, w[INODE_SUPER].offset);
    load4(p, 1, 1, w[SUPER_DEVICE].offset);
    jump(p, BPF_JEQ, 1, (int32_t) sockfs, 2);
    jump(p, BPF_JNE, 1, (int32_t) anonymous, OUT);
    apply(p, BPF_OR, 9, INT32_MIN);
    load4(p, 1, 7, w[TASK_PID].offset);
    load4(p, 2, 7, w[TASK_TGID].offset);
    code(p, BPF_JMP | BPF_X | BPF_JNE, 1, 2, OUT, 0);
}

/* A struct task_file, on the stack, with the number that the process has in our namespace:
 * task->thread_pid->numbers[level of the namespace]. Then out with it. */
static void tell(struct program *p, const struct btf_member_wanted *w)
{
    enum {
        UPID_SHIFT = 4 /* sizeof(struct upid) is 16 */
    };

    load8(p, 1, 8, w[INODE_NUMBER].offset);
    code(p, BPF_STX | BPF_MEM | BPF_DW, 10, 1, -16, 0);
    code(p, BPF_STX | BPF_MEM | BPF_W, 10, 9, -4, 0);
    call(p, BPF_FUNC_get_current_task_btf);
    load8(p, 1, 0, w[TASK_THREAD_PID].offset);
    load4(p, 2, 1, w[PID_LEVEL].offset);
    apply(p, BPF_LSH, 2, UPID_SHIFT);
    load8(p, 3, 7, w[TASK_THREAD_PID].offset);
    apply(p, BPF_ADD, 3, w[PID_NUMBERS].offset);
    code(p, BPF_ALU64 | BPF_ADD | BPF_X, 3, 2, 0, 0);
    move(p, 1, 10);
    apply(p, BPF_ADD, 1, -8);
    set(p, 2, 4);
    call(p, BPF_FUNC_probe_read_kernel);
    jump(p, BPF_JNE, 0, 0, OUT);
    load8(p, 1, 6, 0);
    load8(p, 1, 1, 0);
    move(p, 2, 10);
    apply(p, BPF_ADD, 2, -16);
    set(p, 3, sizeof(struct task_file));
    call(p, BPF_FUNC_seq_write);
}

static void finish(struct program *p)
{
    unsigned out = p->count;

    set(p, 0, 0);
    code(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (unsigned i = 0; i < out; i++)
        if (p->at[i].off == OUT)
            p->at[i].off = (int16_t) (out - i - 1);
}

/* ---- the kernel ---- */

static int bpf_call(int command, union bpf_attr *attributes)
{
    long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);

    return result < 0 ? -errno : (int) result;
}

static int load_program(const struct program *p, uint32_t function)
{
    union bpf_attr a = { .prog_type = BPF_PROG_TYPE_TRACING };

    a.insns = (uintptr_t) p->at;
    a.insn_cnt = p->count;
    a.license = (uintptr_t) "Dual MIT/GPL";
    a.expected_attach_type = BPF_TRACE_ITER;
    a.attach_btf_id = function;
    return bpf_call(BPF_PROG_LOAD, &a);
}

/* A descriptor that the program's output is read from. */
static int open_iterator(const struct program *p, uint32_t function)
{
    union bpf_attr link = { .link_create = { .attach_type = BPF_TRACE_ITER } }, iterator = { 0 };
    int program = load_program(p, function), linked, result;

    if (program < 0)
        return program;
    link.link_create.prog_fd = (uint32_t) program;
    linked = bpf_call(BPF_LINK_CREATE, &link);
    close(program);
    if (linked < 0)
        return linked;
    iterator.iter_create.link_fd = (uint32_t) linked;
    result = bpf_call(BPF_ITER_CREATE, &iterator);
    close(linked);
    return result;
}

static int read_all(int iterator, task_files *files)
{
    ssize_t n;

    do {
        if (list_need(files, PART / sizeof(struct task_file)) < 0)
            return -ENOMEM;
        n = read(iterator, files->at + files->count, PART);
        if (n > 0)
            files->count += (size_t) n / sizeof(struct task_file);
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? -errno : 0;
}

/* ---- ours ---- */

static bool are_few(void)
{
    char text[64];

    return read_proc(text, sizeof text, "/proc/sys/fs/file-nr") <= 0
        || strtoul(text, NULL, 10) < FEW;
}

static int by_place(const void *a, const void *b)
{
    const struct task_file *x = a, *y = b;
    uint32_t left = x->fd & ~TASK_FILE_OTHER, right = y->fd & ~TASK_FILE_OTHER;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return left < right ? -1 : left > right;
}

/* Is /proc that of our namespace, and have we found ourselves? */
static bool is_ours(const task_files *files, int own)
{
    char self[16];
    ssize_t n = readlink("/proc/self", self, sizeof self - 1);
    size_t count;
    const struct task_file *mine = task_files_of(files, getpid(), &count);

    if (n <= 0)
        return false;
    self[n] = '\0';
    if (atoi(self) != getpid())
        return false;
    for (size_t i = 0; i < count; i++)
        if (mine[i].fd == ((uint32_t) own | TASK_FILE_OTHER))
            return true;
    return false;
}

/* As the kernel has it inside. */
static uint32_t kernel_device(uint64_t device)
{
    return (uint32_t) major(device) << 20 | (uint32_t) minor(device);
}

static int read_devices(task_files *files, uint64_t sockfs, int own)
{
    struct btf_member_wanted wanted[WANTED] = {
        [FILE_INODE] = { .structure = "file", .member = "f_inode" },
        [INODE_NUMBER] = { .structure = "inode", .member = "i_ino" },
        [INODE_SUPER] = { .structure = "inode", .member = "i_sb" },
        [SUPER_DEVICE] = { .structure = "super_block", .member = "s_dev" },
        [TASK_PID] = { .structure = "task_struct", .member = "pid" },
        [TASK_TGID] = { .structure = "task_struct", .member = "tgid" },
        [TASK_THREAD_PID] = { .structure = "task_struct", .member = "thread_pid" },
        [PID_LEVEL] = { .structure = "pid", .member = "level" },
        [PID_NUMBERS] = { .structure = "pid", .member = "numbers" },
    };
    struct program program = { .count = 0 };
    struct stat st;
    uint32_t function;
    int iterator, result = btf_find(wanted, WANTED, "bpf_iter_task_file", &function);

    if (result < 0 || fstat(own, &st) < 0)
        return result < 0 ? result : -errno;
    choose_files(&program, wanted, kernel_device(sockfs), kernel_device(st.st_dev));
    tell(&program, wanted);
    finish(&program);
    iterator = open_iterator(&program, function);
    if (iterator < 0)
        return iterator;
    result = read_all(iterator, files);
    close(iterator);
    return result;
}

int task_files_read(task_files *files, uint64_t sockfs)
{
    int own, result;

    *files = (task_files) { .at = NULL };
    if (are_few() || geteuid() != 0)
        return -EAGAIN;
    own = epoll_create1(EPOLL_CLOEXEC);
    if (own < 0)
        return -errno;
    result = read_devices(files, sockfs, own);
    if (result == 0) {
        list_sort(files, by_place);
        result = is_ours(files, own) ? 0 : -ENOTSUP;
    }
    close(own);
    if (result < 0)
        list_free(files);
    return result;
}

static int by_process(const void *key, const void *element)
{
    const struct task_file *file = element;
    int32_t pid = *(const int32_t *) key;

    return pid < file->pid ? -1 : pid > file->pid;
}

const struct task_file *task_files_of(const task_files *files, int32_t pid, size_t *count)
{
    const struct task_file *at = files->at, *end = at + files->count;
    const struct task_file *first = list_search(files, &pid, by_process);
    const struct task_file *last = first;

    *count = 0;
    if (!first)
        return NULL;
    while (first > at && first[-1].pid == pid)
        first--;
    while (last < end && last->pid == pid)
        last++;
    *count = (size_t) (last - first);
    return first;
}
