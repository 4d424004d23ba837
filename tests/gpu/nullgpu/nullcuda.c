/* nullcuda.c - "null GPU": a test double of the CUDA driver API (libcuda.so.1)
 * on host memory.  Allocation, copies, memsets, streams, events, capture and
 * bookkeeping really happen; kernels are accepted and do nothing.
 *
 * Written from the public header cuda.h.  Not a GPU emulator: results of
 * kernels are meaningless, timings come from a deterministic virtual clock.
 *
 * Environment:
 *   NULLGPU_DEVICE   a100 (default) | rtx3080 | orin | orin-nano | l4 | h100 | t4 | none
 *   NULLGPU_MEM_MB   device memory size, overriding the preset
 *   NULLGPU_DRIVER   driver version to report, e.g. 12040 (default: that of cuda.h)
 *   NULLGPU_SCHEDULE when queued work runs: eager (default) | lazy | random:SEED (see "queues" below)
 *   NULLGPU_FILL     1: new memory is full of 0xff bytes (floats: NaN); real memory may contain anything
 *   NULLGPU_LOG      1: log every call; 2: only failing/unimplemented; file in NULLGPU_LOGFILE
 *   NULLGPU_STATS    1: print call counts at exit
 *   NULLGPU_STRICT   1: an unimplemented call returns CUDA_ERROR_NOT_SUPPORTED (default)
 *                    0: it returns CUDA_SUCCESS
 *
 * Tests control and query it through the nullgpu_* functions at the end of this file (nullgpu.h lists them).
 */
#define _GNU_SOURCE
#include <cuda.h>
#include "nullgpu.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FN __attribute__((visibility("default"))) CUresult CUDAAPI

/* ------------------------------------------------------------------ logging */
static int g_log, g_stats, g_strict = 1;
static FILE *g_logf;
#define MAXSTAT 2048
static struct { const char *name; atomic_ulong n; } g_stat[MAXSTAT];
static atomic_int g_nstat;
static pthread_mutex_t g_mu = PTHREAD_MUTEX_INITIALIZER;   /* all bookkeeping */

static void logline(const char *fmt, ...) {
    va_list ap;
    if (!g_logf) return;
    flockfile(g_logf);
    fprintf(g_logf, "[nullgpu %ld] ", (long)syscall(SYS_gettid));
    va_start(ap, fmt); vfprintf(g_logf, fmt, ap); va_end(ap);
    fputc('\n', g_logf);
    fflush(g_logf);
    funlockfile(g_logf);
}
static int stat_slot(const char *name) {
    pthread_mutex_lock(&g_mu);
    int i, n = g_nstat;
    for (i = 0; i < n; i++) if (!strcmp(g_stat[i].name, name)) break;
    if (i == n && n < MAXSTAT) { g_stat[n].name = name; g_nstat = n + 1; }
    pthread_mutex_unlock(&g_mu);
    return i < MAXSTAT ? i : MAXSTAT - 1;
}

#define E0 do { static atomic_int slot_ = -1; if (slot_ < 0) slot_ = stat_slot(__func__); \
    g_stat[slot_].n++; if (g_log == 1) logline("%s", __func__); } while (0)
#define L(fmt, ...) do { static atomic_int slot_ = -1; if (slot_ < 0) slot_ = stat_slot(__func__); \
    g_stat[slot_].n++; if (g_log == 1) logline("%s(" fmt ")", __func__, __VA_ARGS__); } while (0)
static CUresult fail_(const char *f, CUresult r, const char *why) {
    if (g_log) logline("%s -> error %d%s%s", f, (int)r, *why ? ": " : "", why);
    return r;
}
#define FAIL(r) return fail_(__func__, r, "")
#define FAILW(r, why) return fail_(__func__, r, why)

/* Fault injection. FAULT is in all calls that may fail in a correct program: memory runs out, a driver or device
 * stops working. It is not in calls that release or only look up something. */
static atomic_ulong g_fallible, g_fail_at;      /* calls seen so far; the number of the call that fails, 0: none */
static int g_fail_result, g_fail_sticky;
static atomic_int g_lost;                       /* after a sticky fault: the device does no more work */
static const char *_Atomic g_failed;
static CUresult fault(const char *name) {
    unsigned long n = ++g_fallible, at = g_fail_at;
    if (!at || (g_fail_sticky ? n < at : n != at)) return CUDA_SUCCESS;
    if (!g_failed) g_failed = name;
    if (g_fail_sticky) g_lost = 1;
    return (CUresult)g_fail_result;
}
#define FAULT do { CUresult f_ = fault(__func__); if (f_) FAILW(f_, "injected"); } while (0)

/* counters for tests: live objects, and work that the device has really done */
static atomic_long g_live_stream, g_live_event, g_live_graph, g_live_exec, g_live_module, g_live_ctx;
static atomic_ulong g_copies[3], g_bytes[3], g_syncs, g_hostfns, g_launches;
enum { H2D, D2H, D2D };

/* called by the generated stubs in stubs.c */
__attribute__((visibility("hidden"))) int nullgpu_unimplemented(const char *name, atomic_int *slot) {
    if (*slot < 0) *slot = stat_slot(name);
    g_stat[*slot].n++;
    if (g_log) logline("UNIMPLEMENTED %s", name);
    return g_strict ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}
struct nullgpu_sym { const char *name; void *fn; };
extern const struct nullgpu_sym nullgpu_syms[];   /* sorted by name; stubs.c */
extern const int nullgpu_nsyms;

/* ------------------------------------------------------------------ device */
typedef struct {
    const char *key, *name;
    int major, minor, sms, clock_khz, mem_khz, bus, l2, smem_sm, smem_optin,
        thr_sm, blk_sm, integrated, async_eng;
    long mem_mb;
} Dev;
static const Dev presets[] = {
  {"a100", "NVIDIA A100-SXM4-40GB", 8,0,108,1410000,1215000,5120,41943040,167936,166912,2048,32,0,3, 40370},
  {"rtx3080","NVIDIA GeForce RTX 3080",8,6,68,1710000,9501000,320,5242880,102400,101376,1536,16,0,2, 10018},
  {"orin", "Orin", 8,7,16,1300000,1300000,256,4194304,167936,166912,1536,16,1,2, 62841},
  {"orin-nano","Orin",8,7,8,624500,624500,128,2097152,167936,166912,1536,16,1,2, 7620},
  {"l4", "NVIDIA L4", 8,9,58,2040000,6251000,192,50331648,102400,101376,1536,24,0,2, 22563},
  {"h100","NVIDIA H100 80GB HBM3",9,0,132,1980000,2619000,5120,52428800,233472,232448,2048,32,0,3, 81090},
  {"t4", "Tesla T4", 7,5,40,1590000,5001000,256,4194304,65536,65536,1024,16,0,3, 14928},
};
static Dev D;
static int g_fill;
static int g_ndev = 1, g_driver = CUDA_VERSION, g_inited;
static size_t g_total, g_used;

__attribute__((constructor)) static void setup(void) {
    const char *s;
    g_logf = stderr;
    if ((s = getenv("NULLGPU_LOGFILE")) && *s) { FILE *f = fopen(s, "a"); if (f) g_logf = f; }
    if ((s = getenv("NULLGPU_LOG"))) g_log = atoi(s);
    if ((s = getenv("NULLGPU_STATS"))) g_stats = atoi(s);
    if ((s = getenv("NULLGPU_STRICT"))) g_strict = atoi(s);
    if ((s = getenv("NULLGPU_DRIVER"))) g_driver = atoi(s);
    if ((s = getenv("NULLGPU_FILL"))) g_fill = atoi(s);
    if ((s = getenv("NULLGPU_SCHEDULE")) && nullgpu_schedule(s)) logline("unknown NULLGPU_SCHEDULE %s, using eager", s);
    D = presets[0];
    if ((s = getenv("NULLGPU_DEVICE"))) {
        size_t i, n = sizeof presets / sizeof *presets;
        if (!strcmp(s, "none")) g_ndev = 0;
        else {
            for (i = 0; i < n && strcmp(presets[i].key, s); i++) {}
            if (i < n) D = presets[i]; else logline("unknown NULLGPU_DEVICE %s, using a100", s);
        }
    }
    if ((s = getenv("NULLGPU_MEM_MB"))) D.mem_mb = atol(s);
    g_total = (size_t)D.mem_mb << 20;
}
__attribute__((destructor)) static void teardown(void) {
    if (!g_stats) return;
    for (int i = 0; i < g_nstat; i++)
        logline("calls %8lu %s", (unsigned long)g_stat[i].n, g_stat[i].name);
}
#define CHECK_INIT do { if (!g_inited) FAIL(CUDA_ERROR_NOT_INITIALIZED); } while (0)
#define CHECK_DEV(d) do { if ((d) < 0 || (d) >= g_ndev) FAIL(CUDA_ERROR_INVALID_DEVICE); } while (0)
#define CHECK_PTR(p) do { if (!(p)) FAIL(CUDA_ERROR_INVALID_VALUE); } while (0)

FN cuInit(unsigned int flags) {
    L("%u", flags); FAULT;
    if (flags) FAIL(CUDA_ERROR_INVALID_VALUE);
    if (!g_ndev) FAIL(CUDA_ERROR_NO_DEVICE);
    g_inited = 1;
    return CUDA_SUCCESS;
}
FN cuDriverGetVersion(int *v) { E0; CHECK_PTR(v); *v = g_driver; return CUDA_SUCCESS; }
FN cuDeviceGetCount(int *n) { E0; CHECK_PTR(n); CHECK_INIT; *n = g_ndev; return CUDA_SUCCESS; }
FN cuDeviceGet(CUdevice *d, int i) { L("%d", i); CHECK_PTR(d); CHECK_INIT; CHECK_DEV(i); *d = i; return CUDA_SUCCESS; }
FN cuDeviceGetName(char *s, int len, CUdevice d) {
    E0; CHECK_PTR(s); CHECK_DEV(d); snprintf(s, len, "%s", D.name); return CUDA_SUCCESS;
}
static const unsigned char dev_uuid[16] = {0x4e,0x55,0x4c,0x4c,0x47,0x50,0x55,0x00,1,2,3,4,5,6,7,8};
FN cuDeviceGetUuid_v2(CUuuid *u, CUdevice d) { E0; CHECK_PTR(u); CHECK_DEV(d); memcpy(u, dev_uuid, 16); return CUDA_SUCCESS; }
#undef cuDeviceGetUuid
FN cuDeviceGetUuid(CUuuid *u, CUdevice d) { E0; CHECK_PTR(u); CHECK_DEV(d); memcpy(u, dev_uuid, 16); return CUDA_SUCCESS; }
FN cuDeviceGetLuid(char *luid, unsigned int *mask, CUdevice d) { E0; CHECK_DEV(d); memset(luid, 0, 8); *mask = 0; return CUDA_SUCCESS; }
FN cuDeviceTotalMem(size_t *b, CUdevice d) { E0; CHECK_PTR(b); CHECK_DEV(d); *b = g_total; return CUDA_SUCCESS; }
FN cuDeviceComputeCapability(int *a, int *b, CUdevice d) { E0; CHECK_DEV(d); *a = D.major; *b = D.minor; return CUDA_SUCCESS; }
FN cuDeviceGetPCIBusId(char *s, int len, CUdevice d) { E0; CHECK_DEV(d); snprintf(s, len, "0000:01:00.0"); return CUDA_SUCCESS; }
FN cuDeviceGetByPCIBusId(CUdevice *d, const char *s) { L("%s", s); CHECK_PTR(d); *d = 0; return CUDA_SUCCESS; }
FN cuDeviceCanAccessPeer(int *can, CUdevice a, CUdevice b) { E0; CHECK_DEV(a); CHECK_DEV(b); *can = 0; return CUDA_SUCCESS; }
FN cuDeviceGetP2PAttribute(int *v, CUdevice_P2PAttribute a, CUdevice s, CUdevice d) { E0; (void)a; CHECK_DEV(s); CHECK_DEV(d); *v = 0; return CUDA_SUCCESS; }
FN cuDeviceGetExecAffinitySupport(int *pi, CUexecAffinityType t, CUdevice d) { E0; (void)t; CHECK_DEV(d); *pi = 0; return CUDA_SUCCESS; }
FN cuDeviceGetTexture1DLinearMaxWidth(size_t *w, CUarray_format f, unsigned c, CUdevice d) { E0; (void)f;(void)c; CHECK_DEV(d); *w = 268435456; return CUDA_SUCCESS; }
FN cuDeviceGetProperties(CUdevprop *p, CUdevice d) {
    E0; CHECK_PTR(p); CHECK_DEV(d); memset(p, 0, sizeof *p);
    p->maxThreadsPerBlock = 1024; p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024; p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647; p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->sharedMemPerBlock = 49152; p->totalConstantMemory = 65536; p->SIMDWidth = 32;
    p->memPitch = 2147483647; p->regsPerBlock = 65536; p->clockRate = D.clock_khz; p->textureAlign = 512;
    return CUDA_SUCCESS;
}
FN cuDeviceGetAttribute(int *v, CUdevice_attribute a, CUdevice d) {
    L("%d", (int)a); CHECK_PTR(v); CHECK_DEV(d);
    switch ((int)a) {
    case 1: case 2: case 3: *v = 1024; break;             /* threads per block, block dim x, y */
    case 4: *v = 64; break;
    case 5: *v = 2147483647; break;
    case 6: case 7: *v = 65535; break;
    case 8: *v = 49152; break;
    case 9: *v = 65536; break;
    case 10: *v = 32; break;
    case 11: *v = 2147483647; break;
    case 12: case 82: *v = 65536; break;                  /* registers */
    case 13: *v = D.clock_khz; break;
    case 14: *v = 512; break;
    case 15: *v = 1; break;
    case 16: *v = D.sms; break;
    case 18: *v = D.integrated; break;
    case 19: case 31: case 41: case 78: case 79: case 80: case 83: case 90: case 95: *v = 1; break;
    case 21: case 22: *v = 131072; break;
    case 23: *v = 65536; break;
    case 24: case 25: case 26: *v = 16384; break;
    case 27: case 28: case 42: case 45: case 46: case 55: case 56: case 57: case 58: case 59: case 60:
    case 61: case 63: case 64: case 66: case 67: case 73: case 74: case 77: case 52: case 53: *v = 32768; break;
    case 29: case 43: case 54: case 62: case 65: case 68: *v = 2046; break;
    case 30: *v = 512; break;
    case 32: *v = !D.integrated && D.bus > 1000; break;
    case 33: *v = 1; break;
    case 34: case 50: *v = 0; break;
    case 36: *v = D.mem_khz; break;
    case 37: *v = D.bus; break;
    case 38: *v = D.l2; break;
    case 39: *v = D.thr_sm; break;
    case 40: *v = D.async_eng; break;
    case 44: *v = 1; break;
    case 47: case 48: *v = 8192; break;
    case 49: *v = 32768; break;
    case 51: *v = 32; break;
    case 69: *v = 268435456; break;
    case 70: case 71: *v = 131072; break;
    case 72: *v = 2097120; break;
    case 75: *v = D.major; break;
    case 76: *v = D.minor; break;
    case 81: *v = D.smem_sm; break;
    case 86: *v = D.integrated; break;
    case 87: *v = D.minor ? 32 : 2; break;
    case 89: *v = !D.integrated; break;
    case 91: case 99: *v = 1; break;
    case 92: case 93: case 122: case 123: *v = 1; break;
    case 97: *v = D.smem_optin; break;
    case 102: *v = 1; break;
    case 103: *v = 1; break;
    case 106: *v = D.blk_sm; break;
    case 108: *v = D.l2 / 8 * 6; break;
    case 109: *v = 134217728; break;
    case 111: *v = 1024; break;
    case 112: case 113: case 114: case 121: case 129: *v = 1; break;
    case 115: *v = 1; break;                              /* memory pools */
    case 118: *v = 100; break;
    case 119: *v = 1; break;
    case 120: case 127: *v = D.major >= 9; break;         /* cluster launch, tensor map */
    case 126: *v = D.major >= 9 ? 4 : 1; break;
    case 131: case 134: *v = -1; break;
    default:
        if ((int)a < 1 || (int)a >= CU_DEVICE_ATTRIBUTE_MAX + 64) FAIL(CUDA_ERROR_INVALID_VALUE);
        *v = 0;
    }
    return CUDA_SUCCESS;
}

/* ------------------------------------------------------------------ memory */
typedef struct { uintptr_t p; size_t n, mapped; int kind; uint64_t id; unsigned flags; } Blk;
enum { K_DEV, K_HOST, K_REG, K_MANAGED, K_RESERVE };
static Blk *blk; static int nblk, capblk; static uint64_t blk_id = 1;
static int blk_find(uintptr_t p) {            /* index of last block with start <= p, or -1 */
    int lo = 0, hi = nblk;
    while (lo < hi) { int m = (lo + hi) / 2; if (blk[m].p <= p) lo = m + 1; else hi = m; }
    return lo - 1;
}
static Blk *blk_at(uintptr_t p) {
    int i = blk_find(p);
    return i >= 0 && (p < blk[i].p + blk[i].n || (p == blk[i].p && !blk[i].n)) ? &blk[i] : NULL;
}
static void blk_add(uintptr_t p, size_t n, size_t mapped, int kind, unsigned flags) {
    int i = blk_find(p) + 1;
    if (nblk == capblk) blk = realloc(blk, sizeof *blk * (capblk = capblk ? capblk * 2 : 1024));
    memmove(blk + i + 1, blk + i, sizeof *blk * (nblk - i));
    blk[i] = (Blk){p, n, mapped, kind, blk_id++, flags};
    nblk++;
    if (kind == K_DEV || kind == K_MANAGED) g_used += mapped;
}
static void blk_del(int i) {
    if (blk[i].kind == K_DEV || blk[i].kind == K_MANAGED) g_used -= blk[i].mapped;
    memmove(blk + i, blk + i + 1, sizeof *blk * (nblk - i - 1));
    nblk--;
}
/* all memory is mmap'ed, lazily backed: an allocation that is never touched costs nothing.  Small
 * ones are cut from 2 MiB slabs by size class to keep the number of mappings low. */
static void *small_free[16];
static void *ng_alloc(size_t n, size_t *mapped) {
    if (n <= 65536) {
        int c = 0; size_t sz = 512;
        while (sz < n) { sz <<= 1; c++; }
        if (!small_free[c]) {
            size_t slab = 2 << 20;
            char *s = mmap(NULL, slab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (s == MAP_FAILED) return NULL;
            for (size_t o = slab; o >= sz; o -= sz) { void *q = s + o - sz; *(void **)q = small_free[c]; small_free[c] = q; }
        }
        void *p = small_free[c]; small_free[c] = *(void **)p; *(void **)p = NULL;
        *mapped = sz;
        return p;
    }
    *mapped = (n + 4095) & ~(size_t)4095;
    void *p = mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}
static void ng_release(uintptr_t p, size_t mapped) {
    if (mapped <= 65536 && mapped >= 512 && !(mapped & (mapped - 1))) {
        int c = 0; size_t sz = 512;
        while (sz < mapped) { sz <<= 1; c++; }
        *(void **)p = small_free[c]; small_free[c] = (void *)p;
    } else munmap((void *)p, mapped);
}
static CUresult mem_alloc(uintptr_t *out, size_t n, int kind, unsigned flags) {
    size_t mapped; CUresult r = CUDA_SUCCESS;
    pthread_mutex_lock(&g_mu);
    if ((kind == K_DEV || kind == K_MANAGED) && n > g_total - g_used) r = CUDA_ERROR_OUT_OF_MEMORY;
    else {
        void *p = ng_alloc(n, &mapped);
        if (!p) r = CUDA_ERROR_OUT_OF_MEMORY;
        else { blk_add((uintptr_t)p, n, mapped, kind, flags); *out = (uintptr_t)p; if (g_fill && kind != K_RESERVE) memset(p, 0xff, n); }
    }
    pthread_mutex_unlock(&g_mu);
    return r;
}
static CUresult mem_free(uintptr_t p, int kind) {
    CUresult r = CUDA_SUCCESS;
    if (!p) return r;
    pthread_mutex_lock(&g_mu);
    int i = blk_find(p);
    if (i < 0 || blk[i].p != p || (kind == K_HOST) != (blk[i].kind == K_HOST) || blk[i].kind == K_REG) r = CUDA_ERROR_INVALID_VALUE;
    else { size_t m = blk[i].mapped; blk_del(i); ng_release(p, m); }
    pthread_mutex_unlock(&g_mu);
    return r;
}
/* is [p, p+n) inside one known block?  Unknown ranges are acceptable only for host arguments. */
static int dev_range_ok(uintptr_t p, size_t n) {
    pthread_mutex_lock(&g_mu);
    Blk *b = blk_at(p);
    int ok = b && p - b->p + n <= (b->mapped > b->n ? b->mapped : b->n);
    pthread_mutex_unlock(&g_mu);
    return ok || !n;
}
static CUresult need_ctx(void);
static int capture_forbids(void);
static void finish_all(void);
/* calls that are forbidden while a stream of this process captures in global mode: they break that capture */
#define NO_CAPTURE do { if (capture_forbids()) FAILW(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "a stream is capturing"); } while (0)
#define CHECK_CTX do { CUresult r_ = need_ctx(); if (r_) FAIL(r_); } while (0)
#define CHECK_DPTR(p, n) do { if (!dev_range_ok((uintptr_t)(p), n)) FAILW(CUDA_ERROR_INVALID_VALUE, "not a device range"); } while (0)

FN cuMemGetInfo(size_t *f, size_t *t) {
    E0; FAULT; CHECK_CTX; if (f) *f = g_total - g_used; if (t) *t = g_total; return CUDA_SUCCESS;
}
FN cuMemAlloc(CUdeviceptr *p, size_t n) {
    L("%zu", n); FAULT; CHECK_PTR(p); CHECK_CTX; NO_CAPTURE; if (!n) FAIL(CUDA_ERROR_INVALID_VALUE);
    uintptr_t q; CUresult r = mem_alloc(&q, n, K_DEV, 0); if (r) FAIL(r); *p = q; return r;
}
FN cuMemAllocPitch(CUdeviceptr *p, size_t *pitch, size_t w, size_t h, unsigned es) {
    L("%zux%zu", w, h); (void)es; FAULT; CHECK_PTR(p); CHECK_CTX; NO_CAPTURE; if (!w || !h) FAIL(CUDA_ERROR_INVALID_VALUE);
    uintptr_t q; *pitch = (w + 511) & ~(size_t)511;
    CUresult r = mem_alloc(&q, *pitch * h, K_DEV, 0); if (r) FAIL(r); *p = q; return r;
}
FN cuMemFree(CUdeviceptr p) { L("%#llx", p); CHECK_CTX; NO_CAPTURE; finish_all(); CUresult r = mem_free(p, K_DEV); if (r) FAIL(r); return r; }
FN cuMemAllocManaged(CUdeviceptr *p, size_t n, unsigned fl) {
    L("%zu", n); FAULT; CHECK_PTR(p); CHECK_CTX; NO_CAPTURE; if (!n) FAIL(CUDA_ERROR_INVALID_VALUE);
    uintptr_t q; CUresult r = mem_alloc(&q, n, K_MANAGED, fl); if (r) FAIL(r); *p = q; return r;
}
FN cuMemHostAlloc(void **p, size_t n, unsigned fl) {
    L("%zu, %u", n, fl); FAULT; CHECK_PTR(p); CHECK_CTX; NO_CAPTURE;
    uintptr_t q = 0; CUresult r = n ? mem_alloc(&q, n, K_HOST, fl) : CUDA_SUCCESS; if (r) FAIL(r); *p = (void *)q; return r;
}
FN cuMemAllocHost(void **p, size_t n) { L("%zu", n); return cuMemHostAlloc(p, n, 0); }
FN cuMemFreeHost(void *p) { L("%p", p); NO_CAPTURE; finish_all(); CUresult r = mem_free((uintptr_t)p, K_HOST); if (r) FAIL(r); return r; }
FN cuMemHostRegister(void *p, size_t n, unsigned fl) {
    L("%p, %zu", p, n); FAULT; CHECK_PTR(p); CHECK_CTX; NO_CAPTURE; CUresult r = CUDA_SUCCESS;
    pthread_mutex_lock(&g_mu);
    if (blk_at((uintptr_t)p)) r = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED; else blk_add((uintptr_t)p, n, 0, K_REG, fl);
    pthread_mutex_unlock(&g_mu);
    if (r) FAIL(r);
    return r;
}
FN cuMemHostUnregister(void *p) {
    L("%p", p); NO_CAPTURE; finish_all(); CUresult r = CUDA_SUCCESS;
    pthread_mutex_lock(&g_mu);
    int i = blk_find((uintptr_t)p);
    if (i < 0 || blk[i].kind != K_REG || blk[i].p != (uintptr_t)p) r = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED; else blk_del(i);
    pthread_mutex_unlock(&g_mu);
    if (r) FAIL(r);
    return r;
}
FN cuMemHostGetDevicePointer(CUdeviceptr *d, void *p, unsigned fl) {
    L("%p", p); (void)fl; CHECK_PTR(d); CHECK_DPTR(p, 1); *d = (uintptr_t)p; return CUDA_SUCCESS;
}
FN cuMemHostGetFlags(unsigned *f, void *p) {
    L("%p", p); pthread_mutex_lock(&g_mu); Blk *b = blk_at((uintptr_t)p); unsigned v = b ? b->flags : 0; pthread_mutex_unlock(&g_mu);
    if (!b) FAIL(CUDA_ERROR_INVALID_VALUE);
    *f = v; return CUDA_SUCCESS;
}
FN cuMemGetAddressRange(CUdeviceptr *base, size_t *n, CUdeviceptr p) {
    L("%#llx", p); CUresult r = CUDA_SUCCESS;
    pthread_mutex_lock(&g_mu); Blk *b = blk_at(p);
    if (!b) r = CUDA_ERROR_NOT_FOUND; else { if (base) *base = b->p; if (n) *n = b->n; }
    pthread_mutex_unlock(&g_mu);
    if (r) FAIL(r);
    return r;
}
static CUcontext primary_handle(void);
static CUresult ptr_attr(void *data, CUpointer_attribute a, CUdeviceptr p) {
    CUresult r = CUDA_SUCCESS;
    pthread_mutex_lock(&g_mu);
    Blk *bp = blk_at(p), b = bp ? *bp : (Blk){0};
    pthread_mutex_unlock(&g_mu);
    if (!bp) return CUDA_ERROR_INVALID_VALUE;
    int host = b.kind == K_HOST || b.kind == K_REG;
    switch ((int)a) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: *(CUcontext *)data = primary_handle(); break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: *(unsigned *)data = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE; break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *(CUdeviceptr *)data = p; break;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (!host && b.kind != K_MANAGED) { *(void **)data = NULL; r = CUDA_ERROR_INVALID_VALUE; } else *(void **)data = (void *)p;
        break;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: *(unsigned char *)data = 0; break;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: *(unsigned long long *)data = b.id; break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: *(unsigned char *)data = b.kind == K_MANAGED; break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *(int *)data = 0; break;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: *(uintptr_t *)data = b.p; break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE: *(size_t *)data = b.n; break;
    case CU_POINTER_ATTRIBUTE_MAPPED: *(unsigned char *)data = 1; break;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES: *(uint64_t *)data = 0; break;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE: *(unsigned char *)data = 0; break;
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: *(unsigned *)data = 3; break;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: *(void **)data = NULL; break;
    default: r = CUDA_ERROR_INVALID_VALUE;
    }
    return r;
}
FN cuPointerGetAttribute(void *data, CUpointer_attribute a, CUdeviceptr p) {
    L("%d, %#llx", (int)a, p); CUresult r = ptr_attr(data, a, p); if (r) FAIL(r); return r;
}
FN cuPointerGetAttributes(unsigned n, CUpointer_attribute *a, void **data, CUdeviceptr p) {
    L("%u, %#llx", n, p);
    for (unsigned i = 0; i < n; i++)
        if (ptr_attr(data[i], a[i], p)) {       /* unknown pointer: defaults, success (documented) */
            if (a[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) *(unsigned *)data[i] = 0;
            else if (a[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) *(int *)data[i] = -2;
            else if (a[i] == CU_POINTER_ATTRIBUTE_IS_MANAGED || a[i] == CU_POINTER_ATTRIBUTE_MAPPED) *(unsigned char *)data[i] = 0;
            else *(void **)data[i] = NULL;
        }
    return CUDA_SUCCESS;
}
FN cuPointerSetAttribute(const void *v, CUpointer_attribute a, CUdeviceptr p) { L("%d", (int)a); (void)v; CHECK_DPTR(p, 1); return CUDA_SUCCESS; }

/* ------------------------------------------------------------------ contexts */
typedef struct CUctx_st { uint32_t magic; int refs, flags, primary; uint64_t id; size_t lim[16]; int cache; } Ctx;
#define M_CTX 0x4e436378u
#define M_STREAM 0x4e53746du
#define M_EVENT 0x4e457674u
#define M_MODULE 0x4e4d6f64u
#define M_FUNC 0x4e46756eu
#define M_GRAPH 0x4e477068u
#define M_GEXEC 0x4e477865u
static Ctx g_primary;
static atomic_ulong g_ids = 1;
#define STACK 64
static __thread Ctx *tstack[STACK]; static __thread int tsp;   /* tstack[tsp-1] is current */
static CUcontext primary_handle(void) { return (CUcontext)&g_primary; }
static Ctx *cur(void) { return tsp ? tstack[tsp - 1] : NULL; }
static CUresult need_ctx(void) {
    if (!g_inited) return CUDA_ERROR_NOT_INITIALIZED;
    Ctx *c = cur();
    if (!c) return CUDA_ERROR_INVALID_CONTEXT;
    return c->magic == M_CTX ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}
static void ctx_init(Ctx *c, int flags) {
    memset(c, 0, sizeof *c); c->magic = M_CTX; c->flags = flags; c->id = g_ids++;
    c->lim[CU_LIMIT_STACK_SIZE] = 1024; c->lim[CU_LIMIT_PRINTF_FIFO_SIZE] = 7340032; c->lim[CU_LIMIT_MALLOC_HEAP_SIZE] = 8388608;
    c->lim[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2; c->lim[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048; c->lim[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
}
static void ctx_fini(Ctx *c) { c->magic = 0; }
static CUresult ctx_create(CUcontext *p, unsigned flags, CUdevice d) {
    if (!g_inited) return CUDA_ERROR_NOT_INITIALIZED;
    if (!p) return CUDA_ERROR_INVALID_VALUE;
    if (d < 0 || d >= g_ndev) return CUDA_ERROR_INVALID_DEVICE;
    if (tsp == STACK) return CUDA_ERROR_OUT_OF_MEMORY;
    Ctx *c = malloc(sizeof *c); ctx_init(c, flags); c->refs = 1; g_live_ctx++;
    tstack[tsp++] = c; *p = (CUcontext)c;
    return CUDA_SUCCESS;
}
FN cuCtxCreate_v2(CUcontext *p, unsigned f, CUdevice d) { L("%u", f); FAULT; CUresult r = ctx_create(p, f, d); if (r) FAIL(r); return r; }
FN cuCtxCreate_v3(CUcontext *p, CUexecAffinityParam *a, int n, unsigned f, CUdevice d) { L("%u", f); FAULT; (void)a;(void)n; CUresult r = ctx_create(p, f, d); if (r) FAIL(r); return r; }
FN cuCtxCreate_v4(CUcontext *p, CUctxCreateParams *a, unsigned f, CUdevice d) { L("%u", f); FAULT; (void)a; CUresult r = ctx_create(p, f, d); if (r) FAIL(r); return r; }
FN cuCtxDestroy(CUcontext h) {
    L("%p", (void *)h); Ctx *c = (Ctx *)h; if (!c || c->magic != M_CTX || c == &g_primary) FAIL(CUDA_ERROR_INVALID_CONTEXT);
    finish_all();
    if (cur() == c) tsp--;
    g_live_ctx--;
    ctx_fini(c);                                     /* kept: stale handles stay detectable */
    return CUDA_SUCCESS;
}
FN cuCtxPushCurrent(CUcontext c) { L("%p", (void *)c); if (!c) FAIL(CUDA_ERROR_INVALID_CONTEXT); if (tsp == STACK) FAIL(CUDA_ERROR_OUT_OF_MEMORY); tstack[tsp++] = (Ctx *)c; return CUDA_SUCCESS; }
FN cuCtxPopCurrent(CUcontext *c) { E0; if (!tsp) FAIL(CUDA_ERROR_INVALID_CONTEXT); Ctx *t = tstack[--tsp]; if (c) *c = (CUcontext)t; return CUDA_SUCCESS; }
FN cuCtxSetCurrent(CUcontext c) {
    L("%p", (void *)c); if (!g_inited) FAIL(CUDA_ERROR_NOT_INITIALIZED);
    if (c && ((Ctx *)c)->magic != M_CTX) FAIL(CUDA_ERROR_INVALID_CONTEXT);
    if (!c) { if (tsp) tsp--; } else if (tsp) tstack[tsp - 1] = (Ctx *)c; else tstack[tsp++] = (Ctx *)c;
    return CUDA_SUCCESS;
}
FN cuCtxGetCurrent(CUcontext *c) { E0; CHECK_PTR(c); CHECK_INIT; *c = (CUcontext)cur(); return CUDA_SUCCESS; }
FN cuCtxGetDevice(CUdevice *d) { E0; CHECK_CTX; *d = 0; return CUDA_SUCCESS; }
FN cuCtxGetDevice_v2(CUdevice *d, CUcontext c) { E0; if (!c) CHECK_CTX; *d = 0; return CUDA_SUCCESS; }
FN cuCtxGetFlags(unsigned *f) { E0; CHECK_CTX; *f = cur()->flags; return CUDA_SUCCESS; }
FN cuCtxSetFlags(unsigned f) { E0; CHECK_CTX; cur()->flags = f; return CUDA_SUCCESS; }
FN cuCtxGetId(CUcontext c, unsigned long long *id) { E0; if (!c) CHECK_CTX; *id = (c ? (Ctx *)c : cur())->id; return CUDA_SUCCESS; }
FN cuCtxSynchronize(void) { E0; FAULT; CHECK_CTX; NO_CAPTURE; g_syncs++; finish_all(); return CUDA_SUCCESS; }
FN cuCtxSynchronize_v2(CUcontext c) { E0; FAULT; (void)c; NO_CAPTURE; g_syncs++; finish_all(); return CUDA_SUCCESS; }
FN cuCtxSetLimit(CUlimit l, size_t v) { L("%d, %zu", (int)l, v); CHECK_CTX; if ((unsigned)l > 15) FAIL(CUDA_ERROR_UNSUPPORTED_LIMIT); cur()->lim[l] = v; return CUDA_SUCCESS; }
FN cuCtxGetLimit(size_t *v, CUlimit l) { L("%d", (int)l); CHECK_CTX; if ((unsigned)l > 15) FAIL(CUDA_ERROR_UNSUPPORTED_LIMIT); *v = cur()->lim[l]; return CUDA_SUCCESS; }
FN cuCtxGetCacheConfig(CUfunc_cache *c) { E0; CHECK_CTX; *c = cur()->cache; return CUDA_SUCCESS; }
FN cuCtxSetCacheConfig(CUfunc_cache c) { E0; CHECK_CTX; cur()->cache = c; return CUDA_SUCCESS; }
FN cuCtxGetSharedMemConfig(CUsharedconfig *c) { E0; CHECK_CTX; *c = 1; return CUDA_SUCCESS; }
FN cuCtxSetSharedMemConfig(CUsharedconfig c) { E0; (void)c; CHECK_CTX; return CUDA_SUCCESS; }
FN cuCtxGetApiVersion(CUcontext c, unsigned *v) { E0; (void)c; *v = 3020; return CUDA_SUCCESS; }
FN cuCtxGetStreamPriorityRange(int *lo, int *hi) { E0; CHECK_CTX; if (lo) *lo = 0; if (hi) *hi = -5; return CUDA_SUCCESS; }
FN cuCtxResetPersistingL2Cache(void) { E0; CHECK_CTX; return CUDA_SUCCESS; }
FN cuCtxGetExecAffinity(CUexecAffinityParam *p, CUexecAffinityType t) { E0; CHECK_CTX; memset(p, 0, sizeof *p); p->type = t; p->param.smCount.val = D.sms; return CUDA_SUCCESS; }
FN cuCtxEnablePeerAccess(CUcontext c, unsigned f) { E0; (void)c;(void)f; FAIL(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED); }
FN cuCtxDisablePeerAccess(CUcontext c) { E0; (void)c; FAIL(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED); }
FN cuCtxAttach(CUcontext *c, unsigned f) { E0; (void)f; CHECK_CTX; cur()->refs++; *c = (CUcontext)cur(); return CUDA_SUCCESS; }
FN cuCtxDetach(CUcontext c) { E0; if (!c) FAIL(CUDA_ERROR_INVALID_CONTEXT); if (--((Ctx *)c)->refs == 0) return cuCtxDestroy(c); return CUDA_SUCCESS; }
FN cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) {
    L("%d", d); FAULT; CHECK_PTR(c); CHECK_INIT; CHECK_DEV(d);
    pthread_mutex_lock(&g_mu);
    if (!g_primary.magic) { int f = g_primary.flags; ctx_init(&g_primary, f); g_primary.primary = 1; }
    g_primary.refs++;
    pthread_mutex_unlock(&g_mu);
    *c = (CUcontext)&g_primary; return CUDA_SUCCESS;
}
FN cuDevicePrimaryCtxRelease(CUdevice d) {
    L("%d", d); CHECK_DEV(d); if (!g_primary.refs) FAIL(CUDA_ERROR_INVALID_CONTEXT);
    if (g_primary.refs == 1) finish_all();
    if (--g_primary.refs == 0) { int f = g_primary.flags; ctx_fini(&g_primary); g_primary.flags = f; }
    return CUDA_SUCCESS;
}
FN cuDevicePrimaryCtxReset(CUdevice d) { L("%d", d); CHECK_DEV(d); int f = g_primary.flags, r = g_primary.refs; ctx_fini(&g_primary); if (r) ctx_init(&g_primary, f); g_primary.refs = r; return CUDA_SUCCESS; }
FN cuDevicePrimaryCtxSetFlags(CUdevice d, unsigned f) { L("%d, %u", d, f); CHECK_DEV(d); g_primary.flags = f; return CUDA_SUCCESS; }
FN cuDevicePrimaryCtxGetState(CUdevice d, unsigned *f, int *active) { E0; CHECK_DEV(d); if (f) *f = g_primary.flags; if (active) *active = g_primary.refs > 0; return CUDA_SUCCESS; }

/* ------------------------------------------------------------------ queues
 * Every stream has a queue of operations; a capturing stream records them instead. An operation runs on the thread
 * that triggers it, with no lock held, at a time set by the schedule:
 *   eager        at submission, as far as event waits allow
 *   lazy         when a call waits for it: a synchronise, a synchronous copy, a free, a destroy. Forcing one
 *                stream runs what it needs and nothing else, other streams only as far as its event waits reach
 *   random:SEED  after each submission a random number of operations at the heads of random queues
 * All three are orders that a device may choose, so a program whose results differ between them lacks a
 * synchronisation. Buffers are read and written when the operation runs, except that pageable host memory is staged at
 * submission and that a copy to pageable host memory waits, as in the driver.
 * The legacy stream has no queue: it waits for all blocking streams and runs at once.
 * The virtual clock advances by a fixed function of the work, so that "timings" repeat exactly. */
enum { OP_KERNEL, OP_COPY2D, OP_SET, OP_HOST, OP_EVENT, OP_NOP, OP_WAIT };
typedef struct { int type, dir; uint64_t cost; uintptr_t dst, src; size_t n, w, h, dp, sp; unsigned val; int es; void (*fn)(void *); void *ud; void *staged; } Op;
typedef struct CUgraph_st { uint32_t magic; Op *op; int n, cap; uint64_t id; CUstream origin; int mode, dead, broken; pthread_t thread; } Graph;
typedef struct CUgraphExec_st { uint32_t magic; Graph g; } GExec;
typedef struct Queued { Op op; struct Queued *next; } Queued;
typedef struct CUstream_st {
    uint32_t magic; unsigned flags; int prio; uint64_t id; Ctx *ctx; Graph *cap;
    Queued *head, *tail; uint64_t submitted, done;   /* operations ever queued and finished */
    int busy; pthread_t runner;                      /* a thread is inside its head operation */
    struct CUstream_st *next;                        /* all streams; a destroyed one stays, so that handles stay checkable */
} Stream;
typedef struct CUevent_st { uint32_t magic; unsigned flags; uint64_t t; Graph *cap; Stream *stream; uint64_t at; } Event;
static atomic_ullong g_clock;                        /* virtual nanoseconds */
static Stream g_ptds = {.magic = M_STREAM, .flags = 1, .id = 2, .ctx = &g_primary};
static Stream g_legacy = {.magic = M_STREAM, .id = 1, .ctx = &g_primary};
static Stream *g_streams = &g_ptds;
static pthread_mutex_t g_qmu = PTHREAD_MUTEX_INITIALIZER;   /* queues; taken after no other lock */
static pthread_cond_t g_qcv = PTHREAD_COND_INITIALIZER;
static enum { EAGER, LAZY, RANDOM } g_schedule;
static uint64_t g_seed;

static Stream *stm(CUstream s) {
    Stream *t = !s || s == CU_STREAM_LEGACY ? &g_legacy : s == CU_STREAM_PER_THREAD ? &g_ptds : (Stream *)s;
    if (t->magic != M_STREAM) return NULL;
    if (t->cap && t->cap->dead) t->cap = NULL;       /* its capture has been ended on the origin stream */
    return t;
}
#define GET_STREAM(v, s) CHECK_CTX; Stream *v = stm(s); if (!v) FAIL(CUDA_ERROR_INVALID_HANDLE)
static void set_run(uintptr_t p, unsigned v, int es, size_t w, size_t h, size_t pitch) {
    for (size_t y = 0; y < h; y++, p += pitch) {
        size_t n = w * es;
        if (es == 1 || v == 0) {
            if (!(v & 255) && n >= (1u << 20)) {     /* large zeroing: give the pages back instead */
                uintptr_t a = (p + 4095) & ~(uintptr_t)4095, e = (p + n) & ~(uintptr_t)4095;
                memset((void *)p, 0, a - p); memset((void *)e, 0, p + n - e);
                if (madvise((void *)a, e - a, MADV_DONTNEED)) memset((void *)a, 0, e - a);
            } else memset((void *)p, v & 255, n);
        }
        else if (es == 2) for (size_t i = 0; i < w; i++) ((uint16_t *)p)[i] = v;
        else for (size_t i = 0; i < w; i++) ((uint32_t *)p)[i] = v;
    }
}
static void op_run(const Op *o) {
    g_clock += o->cost;
    if (g_lost) { if (o->type == OP_COPY2D) free(o->staged); return; }
    switch (o->type) {
    case OP_KERNEL: g_launches++; break;
    case OP_COPY2D:
        g_copies[o->dir]++; g_bytes[o->dir] += o->n * o->h * o->w;
        for (size_t z = 0; z < o->n; z++) for (size_t y = 0; y < o->h; y++)
            memmove((void *)(o->dst + z * o->dp * (size_t)o->val + y * o->dp), (void *)(o->src + z * o->sp * (size_t)o->es + y * o->sp), o->w);
        free(o->staged);
        break;
    case OP_SET: set_run(o->dst, o->val, o->es, o->w, o->h, o->dp); break;
    case OP_HOST: g_hostfns++; o->fn(o->ud); break;
    case OP_EVENT: ((Event *)o->ud)->t = g_clock; break;
    }
}
/* with g_qmu held: wait for another thread's operation. That operation may be a host function that needs Python's
 * lock, and pycuda keeps that lock through some calls, so it is let go here. */
static void wait_for_other_thread(void) {
    static int (*held)(void); static void *(*save)(void); static void (*restore)(void *);
    if (!held) {
        *(void **)&save = dlsym(RTLD_DEFAULT, "PyEval_SaveThread"); *(void **)&restore = dlsym(RTLD_DEFAULT, "PyEval_RestoreThread");
        *(void **)&held = dlsym(RTLD_DEFAULT, "PyGILState_Check");
    }
    void *state = held && save && restore && held() ? save() : NULL;
    pthread_cond_wait(&g_qcv, &g_qmu);
    if (state) { pthread_mutex_unlock(&g_qmu); restore(state); pthread_mutex_lock(&g_qmu); }
}
/* with g_qmu held */
static int head_ready(const Stream *s) {
    if (!s->head || s->busy) return 0;
    const Op *o = &s->head->op;
    return o->type != OP_WAIT || ((Stream *)o->ud)->done >= o->n;
}
static void run_head(Stream *s) {
    Queued *q = s->head;
    s->busy = 1; s->runner = pthread_self();
    pthread_mutex_unlock(&g_qmu);
    op_run(&q->op);
    pthread_mutex_lock(&g_qmu);
    s->head = q->next; if (!s->head) s->tail = NULL;
    s->busy = 0; s->done++;
    free(q);
    pthread_cond_broadcast(&g_qcv);
}
/* Run a stream up to its at-th operation. 0: it cannot be, because this very thread is inside that stream. */
static int finish_until(Stream *s, uint64_t at) {
    while (s->done < at) {
        if (s->busy) {
            if (pthread_equal(s->runner, pthread_self())) return 0;
            wait_for_other_thread();
        }
        else if (head_ready(s)) run_head(s);
        else { Op o = s->head->op; if (!finish_until((Stream *)o.ud, o.n)) return 0; }
    }
    return 1;
}
static void finish(Stream *s, uint64_t at) { pthread_mutex_lock(&g_qmu); finish_until(s, at); pthread_mutex_unlock(&g_qmu); }
static void finish_all(void) {
    pthread_mutex_lock(&g_qmu);
    for (Stream *s = g_streams; s; s = s->next) finish_until(s, s->submitted);
    pthread_mutex_unlock(&g_qmu);
}
static void finish_blocking(void) {
    pthread_mutex_lock(&g_qmu);
    for (Stream *s = g_streams; s; s = s->next) if (!(s->flags & CU_STREAM_NON_BLOCKING)) finish_until(s, s->submitted);
    pthread_mutex_unlock(&g_qmu);
}
static uint64_t random_number(void) {                /* splitmix64 */
    uint64_t z = (g_seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u; z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/* with g_qmu held: run one operation at the head of the n-th queue that can go on; 0 when none can */
static int run_any(uint64_t n) {
    int ready = 0;
    for (Stream *s = g_streams; s; s = s->next) ready += head_ready(s);
    if (!ready) return 0;
    n %= ready;
    for (Stream *s = g_streams; s; s = s->next) if (head_ready(s) && !n--) { run_head(s); return 1; }
    return 0;
}
static void run_by_schedule(void) {                  /* with g_qmu held, after a submission */
    if (g_schedule == EAGER) while (run_any(0)) {}
    else if (g_schedule == RANDOM) for (int n = (int)(random_number() % 5) - 2; n > 0 && run_any(random_number()); n--) {}   /* 0.6 on average: queues grow */
}
static void graph_add(Graph *g, const Op *o) {
    pthread_mutex_lock(&g_mu);
    if (g->n == g->cap) g->op = realloc(g->op, sizeof *g->op * (g->cap = g->cap ? g->cap * 2 : 16));
    g->op[g->n++] = *o;
    pthread_mutex_unlock(&g_mu);
}
static void enqueue(Stream *s, const Op *o) {
    if (s == &g_legacy) { finish_blocking(); op_run(o); return; }
    Queued *q = malloc(sizeof *q); q->op = *o; q->next = NULL;
    pthread_mutex_lock(&g_qmu);
    if (s->tail) s->tail->next = q; else s->head = q;
    s->tail = q; s->submitted++;
    run_by_schedule();
    pthread_mutex_unlock(&g_qmu);
}
static CUresult submit(Stream *s, const Op *o) { if (s->cap) graph_add(s->cap, o); else enqueue(s, o); return CUDA_SUCCESS; }
/* Is every operation up to the at-th done? If not, one more runs, so that a program that polls comes to an end. */
static CUresult poll(Stream *s, uint64_t at) {
    pthread_mutex_lock(&g_qmu);
    int done = s->done >= at;
    while (!done && !head_ready(s) && s->head && !s->busy) { Op o = s->head->op; s = o.ud; }
    if (!done && head_ready(s)) run_head(s);
    pthread_mutex_unlock(&g_qmu);
    return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

/* ------------------------------------------------------------------ streams, events, graphs */
FN cuStreamCreateWithPriority(CUstream *s, unsigned f, int prio) {
    L("%u, %d", f, prio); FAULT; CHECK_PTR(s); CHECK_CTX; if (f > 1) FAIL(CUDA_ERROR_INVALID_VALUE);
    Stream *n = calloc(1, sizeof *n); *n = (Stream){.magic = M_STREAM, .flags = f, .prio = prio, .id = g_ids++ + 2, .ctx = cur()};
    pthread_mutex_lock(&g_qmu); n->next = g_streams; g_streams = n; pthread_mutex_unlock(&g_qmu);
    g_live_stream++; *s = (CUstream)n; return CUDA_SUCCESS;
}
FN cuStreamCreate(CUstream *s, unsigned f) { L("%u", f); return cuStreamCreateWithPriority(s, f, 0); }
FN cuStreamDestroy(CUstream s) {
    L("%p", (void *)s); Stream *t = s ? stm(s) : NULL; if (!t || t == &g_legacy || t == &g_ptds) FAIL(CUDA_ERROR_INVALID_HANDLE);
    finish(t, t->submitted);
    pthread_mutex_lock(&g_qmu);                      /* an emptied queue needs no more visits */
    for (Stream **p = &g_streams; *p; p = &(*p)->next) if (*p == t) { *p = t->next; break; }
    t->magic = 0;
    pthread_mutex_unlock(&g_qmu);
    if (t->cap) t->cap->broken = 1;
    g_live_stream--; return CUDA_SUCCESS;
}
FN cuStreamQuery(CUstream s) { E0; GET_STREAM(t, s); if (t->cap) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); return poll(t, t->submitted); }
FN cuStreamSynchronize(CUstream s) {
    E0; FAULT; GET_STREAM(t, s); if (t->cap) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    g_syncs++; if (t == &g_legacy) finish_blocking(); else finish(t, t->submitted);
    return CUDA_SUCCESS;
}
FN cuStreamGetFlags(CUstream s, unsigned *f) { E0; GET_STREAM(t, s); *f = t->flags; return CUDA_SUCCESS; }
FN cuStreamGetPriority(CUstream s, int *p) { E0; GET_STREAM(t, s); *p = t->prio; return CUDA_SUCCESS; }
FN cuStreamGetId(CUstream s, unsigned long long *id) { E0; GET_STREAM(t, s); *id = t->id; return CUDA_SUCCESS; }
FN cuStreamGetCtx(CUstream s, CUcontext *c) { E0; GET_STREAM(t, s); *c = (CUcontext)(s && t->ctx ? t->ctx : cur()); return CUDA_SUCCESS; }
FN cuStreamGetDevice(CUstream s, CUdevice *d) { E0; GET_STREAM(t, s); (void)t; *d = 0; return CUDA_SUCCESS; }
FN cuStreamCopyAttributes(CUstream a, CUstream b) { E0; (void)a;(void)b; return CUDA_SUCCESS; }
FN cuStreamGetAttribute(CUstream s, CUstreamAttrID a, CUstreamAttrValue *v) { E0; (void)a; GET_STREAM(t, s); (void)t; memset(v, 0, sizeof *v); return CUDA_SUCCESS; }
FN cuStreamSetAttribute(CUstream s, CUstreamAttrID a, const CUstreamAttrValue *v) { E0; (void)a;(void)v; GET_STREAM(t, s); (void)t; return CUDA_SUCCESS; }
FN cuStreamAttachMemAsync(CUstream s, CUdeviceptr p, size_t n, unsigned f) { E0; (void)p;(void)n;(void)f; GET_STREAM(t, s); (void)t; return CUDA_SUCCESS; }
FN cuStreamWaitEvent(CUstream s, CUevent e, unsigned f) {
    E0; (void)f; FAULT; GET_STREAM(t, s); Event *v = (Event *)e; if (!v || v->magic != M_EVENT) FAIL(CUDA_ERROR_INVALID_HANDLE);
    if (v->cap && v->cap->dead) FAILW(CUDA_ERROR_CAPTURED_EVENT, "it was recorded in a capture that has ended");
    if (v->cap) { t->cap = v->cap; return CUDA_SUCCESS; }           /* fork or join of a capture */
    if (t->cap) { t->cap->broken = 1; FAILW(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "the event was recorded outside the capture"); }
    if (!v->stream) return CUDA_SUCCESS;             /* never recorded: nothing to wait for */
    Op o = {.type = OP_WAIT, .ud = v->stream, .n = v->at}; return submit(t, &o);
}
FN cuLaunchHostFunc(CUstream s, CUhostFn fn, void *ud) { E0; FAULT; GET_STREAM(t, s); CHECK_PTR(fn); Op o = {.type = OP_HOST, .fn = fn, .ud = ud, .cost = 1000}; return submit(t, &o); }
typedef struct { CUstreamCallback cb; CUstream s; void *ud; } Callback;
static void call_back(void *p) { Callback c = *(Callback *)p; free(p); c.cb(c.s, CUDA_SUCCESS, c.ud); }
FN cuStreamAddCallback(CUstream s, CUstreamCallback cb, void *ud, unsigned f) {
    E0; (void)f; FAULT; GET_STREAM(t, s); if (t->cap) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    Callback *c = malloc(sizeof *c); *c = (Callback){cb, s, ud};
    Op o = {.type = OP_HOST, .fn = call_back, .ud = c, .cost = 1000}; return submit(t, &o);
}

FN cuEventCreate(CUevent *e, unsigned f) { L("%u", f); FAULT; CHECK_PTR(e); CHECK_CTX; Event *v = calloc(1, sizeof *v); v->magic = M_EVENT; v->flags = f; *e = (CUevent)v; g_live_event++; return CUDA_SUCCESS; }
FN cuEventDestroy(CUevent e) { E0; Event *v = (Event *)e; if (!v || v->magic != M_EVENT) FAIL(CUDA_ERROR_INVALID_HANDLE); v->magic = 0; g_live_event--; return CUDA_SUCCESS; }
FN cuEventRecordWithFlags(CUevent e, CUstream s, unsigned f) {
    E0; (void)f; FAULT; GET_STREAM(t, s); Event *v = (Event *)e; if (!v || v->magic != M_EVENT) FAIL(CUDA_ERROR_INVALID_HANDLE);
    v->cap = t->cap;
    Op o = {.type = t->cap ? OP_NOP : OP_EVENT, .ud = v, .cost = 500};
    if (!t->cap) { v->stream = t; v->at = t->submitted + (t != &g_legacy); }
    return submit(t, &o);
}
FN cuEventRecord(CUevent e, CUstream s) { E0; return cuEventRecordWithFlags(e, s, 0); }
FN cuEventQuery(CUevent e) {
    E0; Event *v = (Event *)e; if (!v || v->magic != M_EVENT) FAIL(CUDA_ERROR_INVALID_HANDLE);
    NO_CAPTURE; if (v->cap) FAIL(CUDA_ERROR_CAPTURED_EVENT);
    return v->stream ? poll(v->stream, v->at) : CUDA_SUCCESS;
}
FN cuEventSynchronize(CUevent e) {
    E0; FAULT; Event *v = (Event *)e; if (!v || v->magic != M_EVENT) FAIL(CUDA_ERROR_INVALID_HANDLE);
    NO_CAPTURE; if (v->cap) FAIL(CUDA_ERROR_CAPTURED_EVENT);
    g_syncs++; if (v->stream) finish(v->stream, v->at);
    return CUDA_SUCCESS;
}
static CUresult elapsed(float *ms, CUevent a, CUevent b) {
    Event *x = (Event *)a, *y = (Event *)b;
    if (!ms) return CUDA_ERROR_INVALID_VALUE;
    if (!x || !y || x->magic != M_EVENT || y->magic != M_EVENT || !x->stream || !y->stream || (x->flags & 2) || (y->flags & 2)) return CUDA_ERROR_INVALID_HANDLE;
    pthread_mutex_lock(&g_qmu);
    int done = x->stream->done >= x->at && y->stream->done >= y->at;
    pthread_mutex_unlock(&g_qmu);
    if (!done) return CUDA_ERROR_NOT_READY;
    *ms = ((double)y->t - (double)x->t) / 1e6;
    return CUDA_SUCCESS;
}
FN cuEventElapsedTime_v2(float *ms, CUevent a, CUevent b) { E0; CUresult r = elapsed(ms, a, b); if (r) FAIL(r); return r; }
#undef cuEventElapsedTime
FN cuEventElapsedTime(float *ms, CUevent a, CUevent b) { E0; CUresult r = elapsed(ms, a, b); if (r) FAIL(r); return r; }

/* capture */
static int g_refuse_capture;                         /* NULLGPU_REFUSE_* */
static Graph *g_captures[64]; static int g_ncaptures;   /* those under way */
static __thread CUstreamCaptureMode thread_mode;
static int capture_forbids(void) {
    int found = 0;
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return 0;
    pthread_mutex_lock(&g_mu);
    for (int i = 0; i < g_ncaptures; i++) {
        Graph *g = g_captures[i];
        if (g->mode == CU_STREAM_CAPTURE_MODE_RELAXED || (g->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && !pthread_equal(g->thread, pthread_self()))) continue;
        g->broken = found = 1;
    }
    pthread_mutex_unlock(&g_mu);
    return found;
}
FN cuStreamBeginCapture(CUstream s, CUstreamCaptureMode m) {
    L("%d", (int)m); FAULT; GET_STREAM(t, s); if (t == &g_legacy || g_refuse_capture == NULLGPU_REFUSE_BEGIN) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); if (t->cap && !t->cap->dead) FAIL(CUDA_ERROR_ILLEGAL_STATE);
    Graph *g = calloc(1, sizeof *g); g->magic = M_GRAPH; g->id = g_ids++; g->origin = s; g->mode = m; g->thread = pthread_self();
    pthread_mutex_lock(&g_mu);
    int full = g_ncaptures == 64; if (!full) g_captures[g_ncaptures++] = g;
    pthread_mutex_unlock(&g_mu);
    if (full) { free(g); FAIL(CUDA_ERROR_OUT_OF_MEMORY); }
    t->cap = g; return CUDA_SUCCESS;
}
FN cuStreamEndCapture(CUstream s, CUgraph *g) {
    E0; GET_STREAM(t, s); if (!t->cap) FAIL(CUDA_ERROR_ILLEGAL_STATE);
    Graph *c = t->cap; if (c->origin != s) FAIL(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    CUresult injected = fault(__func__);             /* the capture ends in any case */
    t->cap = NULL;
    pthread_mutex_lock(&g_mu);
    for (int i = 0; i < g_ncaptures; i++) if (g_captures[i] == c) { g_captures[i] = g_captures[--g_ncaptures]; break; }
    pthread_mutex_unlock(&g_mu);
    Graph *out = malloc(sizeof *out); *out = *c; c->dead = 1; c->op = NULL;   /* forked streams see c->dead */
    if (c->broken || injected || g_refuse_capture == NULLGPU_REFUSE_END) {
        free(out->op); free(out); if (g) *g = NULL;
        FAIL(injected ? injected : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    g_live_graph++;
    if (g) *g = (CUgraph)out;
    return CUDA_SUCCESS;
}
static CUresult cap_state(CUstream s, CUstreamCaptureStatus *st, cuuint64_t *id, Graph **g) {
    Stream *t = stm(s); if (!t) return CUDA_ERROR_INVALID_HANDLE;
    if (st) *st = !t->cap ? CU_STREAM_CAPTURE_STATUS_NONE : t->cap->broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (id) *id = t->cap ? t->cap->id : 0;
    if (g) *g = t->cap;
    return CUDA_SUCCESS;
}
FN cuStreamIsCapturing(CUstream s, CUstreamCaptureStatus *st) { E0; CHECK_CTX; CUresult r = cap_state(s, st, NULL, NULL); if (r) FAIL(r); return r; }
FN cuStreamGetCaptureInfo_v2(CUstream s, CUstreamCaptureStatus *st, cuuint64_t *id, CUgraph *g, const CUgraphNode **deps, size_t *nd) {
    E0; CHECK_CTX; if (deps) *deps = NULL; if (nd) *nd = 0; CUresult r = cap_state(s, st, id, (Graph **)g); if (r) FAIL(r); return r;
}
FN cuStreamGetCaptureInfo_v3(CUstream s, CUstreamCaptureStatus *st, cuuint64_t *id, CUgraph *g, const CUgraphNode **deps, const CUgraphEdgeData **ed, size_t *nd) {
    E0; CHECK_CTX; if (deps) *deps = NULL; if (ed) *ed = NULL; if (nd) *nd = 0; CUresult r = cap_state(s, st, id, (Graph **)g); if (r) FAIL(r); return r;
}
#undef cuStreamGetCaptureInfo
FN cuStreamGetCaptureInfo(CUstream s, CUstreamCaptureStatus *st, cuuint64_t *id) { E0; CHECK_CTX; CUresult r = cap_state(s, st, id, NULL); if (r) FAIL(r); return r; }
FN cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *m) { E0; CHECK_PTR(m); CUstreamCaptureMode o = thread_mode; thread_mode = *m; *m = o; return CUDA_SUCCESS; }
FN cuGraphCreate(CUgraph *g, unsigned f) { E0; (void)f; FAULT; CHECK_PTR(g); Graph *n = calloc(1, sizeof *n); n->magic = M_GRAPH; n->id = g_ids++; *g = (CUgraph)n; g_live_graph++; return CUDA_SUCCESS; }
FN cuGraphDestroy(CUgraph g) { E0; Graph *n = (Graph *)g; if (!n || n->magic != M_GRAPH) FAIL(CUDA_ERROR_INVALID_VALUE); n->magic = 0; free(n->op); n->op = NULL; g_live_graph--; return CUDA_SUCCESS; }
FN cuGraphGetNodes(CUgraph g, CUgraphNode *nodes, size_t *n) {
    E0; Graph *p = (Graph *)g; if (!p || p->magic != M_GRAPH || !n) FAIL(CUDA_ERROR_INVALID_VALUE);
    if (nodes) for (size_t i = 0; i < *n; i++) nodes[i] = i < (size_t)p->n ? (CUgraphNode)&p->op[i] : NULL; else *n = p->n;
    return CUDA_SUCCESS;
}
static CUresult instantiate(CUgraphExec *e, CUgraph g) {
    Graph *p = (Graph *)g; if (!e || !p || p->magic != M_GRAPH) return CUDA_ERROR_INVALID_VALUE;
    CUresult r = g_refuse_capture == NULLGPU_REFUSE_INSTANTIATE ? CUDA_ERROR_NOT_SUPPORTED : fault(__func__); if (r) return r;
    GExec *x = calloc(1, sizeof *x); x->magic = M_GEXEC; x->g = *p; x->g.op = malloc(sizeof(Op) * (p->n + 1)); if (p->n) memcpy(x->g.op, p->op, sizeof(Op) * p->n);
    *e = (CUgraphExec)x; g_live_exec++; return CUDA_SUCCESS;
}
FN cuGraphInstantiateWithFlags(CUgraphExec *e, CUgraph g, unsigned long long f) { L("%llu", f); CUresult r = instantiate(e, g); if (r) FAIL(r); return r; }
FN cuGraphInstantiateWithParams(CUgraphExec *e, CUgraph g, CUDA_GRAPH_INSTANTIATE_PARAMS *p) { E0; p->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS; p->hErrNode_out = NULL; CUresult r = instantiate(e, g); if (r) FAIL(r); return r; }
FN cuGraphInstantiate_v2(CUgraphExec *e, CUgraph g, CUgraphNode *en, char *buf, size_t n) { E0; if (en) *en = NULL; if (buf && n) *buf = 0; CUresult r = instantiate(e, g); if (r) FAIL(r); return r; }
FN cuGraphExecDestroy(CUgraphExec e) { E0; GExec *x = (GExec *)e; if (!x || x->magic != M_GEXEC) FAIL(CUDA_ERROR_INVALID_VALUE); x->magic = 0; free(x->g.op); x->g.op = NULL; g_live_exec--; return CUDA_SUCCESS; }
FN cuGraphUpload(CUgraphExec e, CUstream s) { E0; FAULT; GET_STREAM(t, s); (void)t; GExec *x = (GExec *)e; if (!x || x->magic != M_GEXEC) FAIL(CUDA_ERROR_INVALID_VALUE); return CUDA_SUCCESS; }
FN cuGraphLaunch(CUgraphExec e, CUstream s) {
    E0; FAULT; GET_STREAM(t, s); GExec *x = (GExec *)e; if (!x || x->magic != M_GEXEC) FAIL(CUDA_ERROR_INVALID_VALUE);
    g_clock += 2000; for (int i = 0; i < x->g.n; i++) submit(t, &x->g.op[i]); return CUDA_SUCCESS;
}
FN cuGraphExecUpdate(CUgraphExec e, CUgraph g, CUgraphExecUpdateResultInfo *ri) {
    E0; FAULT; GExec *x = (GExec *)e; Graph *p = (Graph *)g; if (!x || x->magic != M_GEXEC || !p || p->magic != M_GRAPH) FAIL(CUDA_ERROR_INVALID_VALUE);
    if (ri) { memset(ri, 0, sizeof *ri); ri->result = x->g.n == p->n ? CU_GRAPH_EXEC_UPDATE_SUCCESS : CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED; }
    if (x->g.n != p->n) FAIL(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    memcpy(x->g.op, p->op, sizeof(Op) * p->n); return CUDA_SUCCESS;
}

/* ------------------------------------------------------------------ copies and sets */
static uint64_t xfer_cost(size_t n) { return 2000 + n / 20; }
static int pageable(uintptr_t p) { pthread_mutex_lock(&g_mu); int unknown = !blk_at(p); pthread_mutex_unlock(&g_mu); return unknown; }
static int on_device(uintptr_t p) { pthread_mutex_lock(&g_mu); Blk *b = blk_at(p); int r = b && (b->kind == K_DEV || b->kind == K_MANAGED || b->kind == K_RESERVE); pthread_mutex_unlock(&g_mu); return r; }
/* Queue a copy that reads src_span bytes from o->src on. The driver stages pageable sources while the caller waits, and
 * waits itself for a copy to pageable memory. A capture keeps the address instead. */
static CUresult submit_copy(Stream *t, Op *o, size_t src_span, size_t dst_span) {
    (void)dst_span;
    if (t->cap || t == &g_legacy) return submit(t, o);
    if (o->dir == H2D && pageable(o->src)) { o->staged = malloc(src_span + 1); memcpy(o->staged, (void *)o->src, src_span); o->src = (uintptr_t)o->staged; }
    int wait = o->dir == D2H && pageable(o->dst);
    submit(t, o);
    if (wait) { g_syncs++; finish(t, t->submitted); }
    return CUDA_SUCCESS;
}
static CUresult copy1(Stream *t, uintptr_t d, uintptr_t s, size_t n, int dir) {
    if (dir < 0) dir = !on_device(d) ? D2H : !on_device(s) ? H2D : D2D;      /* cuMemcpy: the addresses tell */
    Op o = {.type = OP_COPY2D, .dir = dir, .dst = d, .src = s, .n = 1, .w = n, .h = 1, .cost = xfer_cost(n)}; return submit_copy(t, &o, n, n);
}
/* host arguments need at least to be addresses; page-locked ones that end too early are refused */
static int host_range_ok(uintptr_t p, size_t n) { return !n || (p && (pageable(p) || dev_range_ok(p, n))); }
#define COPY(name, DT, ST, dcheck, scheck, dir) \
    FN name(DT d, ST s, size_t n) { L("%#lx, %#lx, %zu", (long)d, (long)s, n); FAULT; GET_STREAM(t, 0); dcheck; scheck; g_syncs++; return copy1(t, (uintptr_t)d, (uintptr_t)s, n, dir); }
#define COPYA(name, DT, ST, dcheck, scheck, dir) \
    FN name(DT d, ST s, size_t n, CUstream h) { L("%#lx, %#lx, %zu", (long)d, (long)s, n); FAULT; GET_STREAM(t, h); dcheck; scheck; return copy1(t, (uintptr_t)d, (uintptr_t)s, n, dir); }
#define CP(p) do { if (!host_range_ok((uintptr_t)(p), n)) FAIL(CUDA_ERROR_INVALID_VALUE); } while (0)
COPY(cuMemcpyHtoD, CUdeviceptr, const void *, CHECK_DPTR(d, n), CP(s), H2D)
COPY(cuMemcpyDtoH, void *, CUdeviceptr, CP(d), CHECK_DPTR(s, n), D2H)
COPY(cuMemcpyDtoD, CUdeviceptr, CUdeviceptr, CHECK_DPTR(d, n), CHECK_DPTR(s, n), D2D)
COPY(cuMemcpy, CUdeviceptr, CUdeviceptr, CP(d), CP(s), -1)
COPYA(cuMemcpyHtoDAsync, CUdeviceptr, const void *, CHECK_DPTR(d, n), CP(s), H2D)
COPYA(cuMemcpyDtoHAsync, void *, CUdeviceptr, CP(d), CHECK_DPTR(s, n), D2H)
COPYA(cuMemcpyDtoDAsync, CUdeviceptr, CUdeviceptr, CHECK_DPTR(d, n), CHECK_DPTR(s, n), D2D)
COPYA(cuMemcpyAsync, CUdeviceptr, CUdeviceptr, CP(d), CP(s), -1)
FN cuMemcpyPeer(CUdeviceptr d, CUcontext dc, CUdeviceptr s, CUcontext sc, size_t n) { E0; FAULT; (void)dc;(void)sc; GET_STREAM(t, 0); g_syncs++; return copy1(t, d, s, n, D2D); }
FN cuMemcpyPeerAsync(CUdeviceptr d, CUcontext dc, CUdeviceptr s, CUcontext sc, size_t n, CUstream h) { E0; FAULT; (void)dc;(void)sc; GET_STREAM(t, h); return copy1(t, d, s, n, D2D); }
typedef struct CUarray_st { size_t w, h, d; unsigned fmt, ch, flags; size_t pitch; uintptr_t p; } Array;
static uintptr_t side(int type, const void *host, CUdeviceptr dev, CUarray a, size_t *pitch, size_t *height) {
    if (type == CU_MEMORYTYPE_HOST) return (uintptr_t)host;
    if (type == CU_MEMORYTYPE_ARRAY) { *pitch = ((Array *)a)->pitch; *height = ((Array *)a)->h ? ((Array *)a)->h : 1; return ((Array *)a)->p; }
    return dev;
}
static CUresult copy3(Stream *t, const CUDA_MEMCPY3D *c) {
    if (!c) return CUDA_ERROR_INVALID_VALUE;
    size_t sp = c->srcPitch, dp = c->dstPitch, sh = c->srcHeight, dh = c->dstHeight, h = c->Height ? c->Height : 1, d = c->Depth ? c->Depth : 1;
    uintptr_t s = side(c->srcMemoryType, c->srcHost, c->srcDevice, c->srcArray, &sp, &sh), q = side(c->dstMemoryType, c->dstHost, c->dstDevice, c->dstArray, &dp, &dh);
    if (!c->WidthInBytes) return CUDA_SUCCESS;
    if (!s || !q) return CUDA_ERROR_INVALID_VALUE;
    if (!sp) sp = c->WidthInBytes;
    if (!dp) dp = c->WidthInBytes;
    if (!sh) sh = h;
    if (!dh) dh = h;
    s += c->srcXInBytes + sp * (c->srcY + sh * c->srcZ); q += c->dstXInBytes + dp * (c->dstY + dh * c->dstZ);
    size_t span_s = sp * sh * (d - 1) + sp * (h - 1) + c->WidthInBytes, span_d = dp * dh * (d - 1) + dp * (h - 1) + c->WidthInBytes;
    if (c->srcMemoryType == CU_MEMORYTYPE_DEVICE && !dev_range_ok(s, span_s)) return CUDA_ERROR_INVALID_VALUE;
    if (c->dstMemoryType == CU_MEMORYTYPE_DEVICE && !dev_range_ok(q, span_d)) return CUDA_ERROR_INVALID_VALUE;
    Op o = {.type = OP_COPY2D, .dst = q, .src = s, .n = d, .w = c->WidthInBytes, .h = h, .dp = dp, .sp = sp, .val = dh, .es = sh, .cost = xfer_cost(c->WidthInBytes * h * d)};
    o.dir = c->dstMemoryType == CU_MEMORYTYPE_HOST ? D2H : c->srcMemoryType == CU_MEMORYTYPE_HOST ? H2D : D2D;
    return submit_copy(t, &o, span_s, span_d);
}
static CUresult copy2(Stream *t, const CUDA_MEMCPY2D *c) {
    if (!c) return CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D x = {.srcXInBytes = c->srcXInBytes, .srcY = c->srcY, .srcMemoryType = c->srcMemoryType, .srcHost = c->srcHost, .srcDevice = c->srcDevice, .srcArray = c->srcArray, .srcPitch = c->srcPitch,
        .dstXInBytes = c->dstXInBytes, .dstY = c->dstY, .dstMemoryType = c->dstMemoryType, .dstHost = c->dstHost, .dstDevice = c->dstDevice, .dstArray = c->dstArray, .dstPitch = c->dstPitch,
        .WidthInBytes = c->WidthInBytes, .Height = c->Height, .Depth = 1};
    return c->Height ? copy3(t, &x) : CUDA_SUCCESS;
}
FN cuMemcpy2D(const CUDA_MEMCPY2D *c) { E0; FAULT; GET_STREAM(t, 0); g_syncs++; CUresult r = copy2(t, c); if (r) FAIL(r); return r; }
FN cuMemcpy2DUnaligned(const CUDA_MEMCPY2D *c) { E0; FAULT; GET_STREAM(t, 0); g_syncs++; CUresult r = copy2(t, c); if (r) FAIL(r); return r; }
FN cuMemcpy2DAsync(const CUDA_MEMCPY2D *c, CUstream h) { E0; FAULT; GET_STREAM(t, h); CUresult r = copy2(t, c); if (r) FAIL(r); return r; }
FN cuMemcpy3D(const CUDA_MEMCPY3D *c) { E0; FAULT; GET_STREAM(t, 0); g_syncs++; CUresult r = copy3(t, c); if (r) FAIL(r); return r; }
FN cuMemcpy3DAsync(const CUDA_MEMCPY3D *c, CUstream h) { E0; FAULT; GET_STREAM(t, h); CUresult r = copy3(t, c); if (r) FAIL(r); return r; }
#define SETS(sfx, T, ESZ) \
    FN cuMemset##sfx(CUdeviceptr p, T v, size_t n) { L("%#llx, %u, %zu", p, (unsigned)v, n); FAULT; GET_STREAM(t, 0); CHECK_DPTR(p, n * ESZ); Op o = {.type = OP_SET, .dst = p, .val = v, .es = ESZ, .w = n, .h = 1, .cost = xfer_cost(n * ESZ / 20)}; return submit(t, &o); } \
    FN cuMemset##sfx##Async(CUdeviceptr p, T v, size_t n, CUstream h) { L("%#llx, %u, %zu", p, (unsigned)v, n); FAULT; GET_STREAM(t, h); CHECK_DPTR(p, n * ESZ); Op o = {.type = OP_SET, .dst = p, .val = v, .es = ESZ, .w = n, .h = 1, .cost = xfer_cost(n * ESZ / 20)}; return submit(t, &o); }
SETS(D8, unsigned char, 1)
SETS(D16, unsigned short, 2)
SETS(D32, unsigned int, 4)
#define SETS2(sfx, T, ESZ) \
    FN cuMemset##sfx(CUdeviceptr p, size_t pitch, T v, size_t w, size_t hgt) { E0; FAULT; GET_STREAM(t, 0); if (hgt) CHECK_DPTR(p, pitch * (hgt - 1) + w * ESZ); Op o = {.type = OP_SET, .dst = p, .val = v, .es = ESZ, .w = w, .h = hgt, .dp = pitch, .cost = xfer_cost(w * hgt * ESZ / 20)}; return submit(t, &o); } \
    FN cuMemset##sfx##Async(CUdeviceptr p, size_t pitch, T v, size_t w, size_t hgt, CUstream h) { E0; FAULT; GET_STREAM(t, h); if (hgt) CHECK_DPTR(p, pitch * (hgt - 1) + w * ESZ); Op o = {.type = OP_SET, .dst = p, .val = v, .es = ESZ, .w = w, .h = hgt, .dp = pitch, .cost = xfer_cost(w * hgt * ESZ / 20)}; return submit(t, &o); }
SETS2(D2D8, unsigned char, 1)
SETS2(D2D16, unsigned short, 2)
SETS2(D2D32, unsigned int, 4)
static size_t fmt_size(unsigned f) { switch (f) { case CU_AD_FORMAT_UNSIGNED_INT8: case CU_AD_FORMAT_SIGNED_INT8: return 1; case CU_AD_FORMAT_UNSIGNED_INT16: case CU_AD_FORMAT_SIGNED_INT16: case CU_AD_FORMAT_HALF: return 2; default: return 4; } }
FN cuArray3DCreate(CUarray *a, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    E0; FAULT; CHECK_PTR(a); CHECK_PTR(d); CHECK_CTX; NO_CAPTURE; Array *n = calloc(1, sizeof *n);
    n->w = d->Width; n->h = d->Height; n->d = d->Depth; n->fmt = d->Format; n->ch = d->NumChannels; n->flags = d->Flags; n->pitch = d->Width * d->NumChannels * fmt_size(d->Format);
    CUresult r = mem_alloc(&n->p, n->pitch * (n->h ? n->h : 1) * (n->d ? n->d : 1), K_DEV, 0); if (r) { free(n); FAIL(r); }
    *a = (CUarray)n; return r;
}
FN cuArrayCreate(CUarray *a, const CUDA_ARRAY_DESCRIPTOR *d) { CHECK_PTR(d); CUDA_ARRAY3D_DESCRIPTOR x = {.Width = d->Width, .Height = d->Height, .Format = d->Format, .NumChannels = d->NumChannels}; return cuArray3DCreate(a, &x); }
FN cuArrayDestroy(CUarray a) { E0; CHECK_PTR(a); finish_all(); mem_free(((Array *)a)->p, K_DEV); free((Array *)a); return CUDA_SUCCESS; }
FN cuArray3DGetDescriptor(CUDA_ARRAY3D_DESCRIPTOR *d, CUarray h) { E0; Array *a = (Array *)h; CHECK_PTR(a); *d = (CUDA_ARRAY3D_DESCRIPTOR){.Width = a->w, .Height = a->h, .Depth = a->d, .Format = a->fmt, .NumChannels = a->ch, .Flags = a->flags}; return CUDA_SUCCESS; }
FN cuArrayGetDescriptor(CUDA_ARRAY_DESCRIPTOR *d, CUarray h) { E0; Array *a = (Array *)h; CHECK_PTR(a); *d = (CUDA_ARRAY_DESCRIPTOR){.Width = a->w, .Height = a->h, .Format = a->fmt, .NumChannels = a->ch}; return CUDA_SUCCESS; }
FN cuTexObjectCreate(CUtexObject *o, const CUDA_RESOURCE_DESC *r, const CUDA_TEXTURE_DESC *t, const CUDA_RESOURCE_VIEW_DESC *v) { E0; (void)r;(void)t;(void)v; *o = g_ids++; return CUDA_SUCCESS; }
FN cuTexObjectDestroy(CUtexObject o) { E0; (void)o; return CUDA_SUCCESS; }
FN cuSurfObjectCreate(CUsurfObject *o, const CUDA_RESOURCE_DESC *r) { E0; (void)r; *o = g_ids++; return CUDA_SUCCESS; }
FN cuSurfObjectDestroy(CUsurfObject o) { E0; (void)o; return CUDA_SUCCESS; }

/* stream-ordered allocation, pools */
typedef struct CUmemPoolHandle_st { cuuint64_t attr[16]; } Pool;
static Pool g_pool, *g_curpool = &g_pool;
FN cuDeviceGetDefaultMemPool(CUmemoryPool *p, CUdevice d) { E0; CHECK_DEV(d); *p = (CUmemoryPool)&g_pool; return CUDA_SUCCESS; }
FN cuDeviceGetMemPool(CUmemoryPool *p, CUdevice d) { E0; CHECK_DEV(d); *p = (CUmemoryPool)g_curpool; return CUDA_SUCCESS; }
FN cuDeviceSetMemPool(CUdevice d, CUmemoryPool p) { E0; CHECK_DEV(d); CHECK_PTR(p); g_curpool = (Pool *)p; return CUDA_SUCCESS; }
FN cuMemPoolCreate(CUmemoryPool *p, const CUmemPoolProps *pr) { E0; (void)pr; CHECK_PTR(p); *p = (CUmemoryPool)calloc(1, sizeof(Pool)); return CUDA_SUCCESS; }
FN cuMemPoolDestroy(CUmemoryPool p) { E0; CHECK_PTR(p); if ((Pool *)p != &g_pool) free(p); return CUDA_SUCCESS; }
FN cuMemPoolTrimTo(CUmemoryPool p, size_t n) { E0; (void)n; CHECK_PTR(p); return CUDA_SUCCESS; }
FN cuMemPoolSetAttribute(CUmemoryPool p, CUmemPool_attribute a, void *v) { L("%d", (int)a); CHECK_PTR(p); if ((unsigned)a > 15) FAIL(CUDA_ERROR_INVALID_VALUE); if (a <= 3) ((Pool *)p)->attr[a] = *(int *)v; else ((Pool *)p)->attr[a] = *(cuuint64_t *)v; return CUDA_SUCCESS; }
FN cuMemPoolGetAttribute(CUmemoryPool p, CUmemPool_attribute a, void *v) { L("%d", (int)a); CHECK_PTR(p); if ((unsigned)a > 15) FAIL(CUDA_ERROR_INVALID_VALUE); if (a <= 3) *(int *)v = ((Pool *)p)->attr[a]; else *(cuuint64_t *)v = ((Pool *)p)->attr[a]; return CUDA_SUCCESS; }
FN cuMemPoolSetAccess(CUmemoryPool p, const CUmemAccessDesc *d, size_t n) { E0; (void)p;(void)d;(void)n; return CUDA_SUCCESS; }
FN cuMemPoolGetAccess(CUmemAccess_flags *f, CUmemoryPool p, CUmemLocation *l) { E0; (void)p;(void)l; *f = CU_MEM_ACCESS_FLAGS_PROT_READWRITE; return CUDA_SUCCESS; }
FN cuMemAllocFromPoolAsync(CUdeviceptr *p, size_t n, CUmemoryPool pool, CUstream s) { L("%zu", n); (void)pool;(void)s; return cuMemAlloc(p, n); }
FN cuMemAllocAsync(CUdeviceptr *p, size_t n, CUstream s) { L("%zu", n); (void)s; return cuMemAlloc(p, n); }
FN cuMemFreeAsync(CUdeviceptr p, CUstream s) { L("%#llx", p); (void)s; return cuMemFree(p); }
FN cuMemAdvise_v2(CUdeviceptr p, size_t n, CUmem_advise a, CUmemLocation l) { E0; (void)p;(void)n;(void)a;(void)l; return CUDA_SUCCESS; }
FN cuMemPrefetchAsync_v2(CUdeviceptr p, size_t n, CUmemLocation l, unsigned f, CUstream s) { E0; (void)p;(void)n;(void)l;(void)f;(void)s; return CUDA_SUCCESS; }
#undef cuMemAdvise
#undef cuMemPrefetchAsync
FN cuMemAdvise(CUdeviceptr p, size_t n, CUmem_advise a, CUdevice d) { E0; (void)p;(void)n;(void)a;(void)d; return CUDA_SUCCESS; }
FN cuMemPrefetchAsync(CUdeviceptr p, size_t n, CUdevice d, CUstream s) { E0; (void)p;(void)n;(void)d;(void)s; return CUDA_SUCCESS; }
/* virtual memory management: a reservation is memory already; physical handles carry a size only */
FN cuMemGetAllocationGranularity(size_t *g, const CUmemAllocationProp *p, CUmemAllocationGranularity_flags o) { E0; (void)p;(void)o; *g = 2 << 20; return CUDA_SUCCESS; }
FN cuMemAddressReserve(CUdeviceptr *p, size_t n, size_t al, CUdeviceptr a, unsigned long long f) {
    L("%zu", n); (void)al;(void)a;(void)f; CHECK_PTR(p); uintptr_t q; CUresult r = mem_alloc(&q, n, K_RESERVE, 0); if (r) FAIL(r); *p = q; return r;
}
FN cuMemAddressFree(CUdeviceptr p, size_t n) { E0; (void)n; CUresult r = mem_free(p, K_RESERVE); if (r) FAIL(r); return r; }
FN cuMemCreate(CUmemGenericAllocationHandle *h, size_t n, const CUmemAllocationProp *p, unsigned long long f) {
    L("%zu", n); (void)p;(void)f; pthread_mutex_lock(&g_mu); int bad = n > g_total - g_used; if (!bad) g_used += n; pthread_mutex_unlock(&g_mu);
    if (bad) FAIL(CUDA_ERROR_OUT_OF_MEMORY);
    size_t *s = malloc(sizeof *s); *s = n; *h = (CUmemGenericAllocationHandle)(uintptr_t)s; return CUDA_SUCCESS;
}
FN cuMemRelease(CUmemGenericAllocationHandle h) { E0; size_t *s = (size_t *)(uintptr_t)h; CHECK_PTR(s); pthread_mutex_lock(&g_mu); g_used -= *s; pthread_mutex_unlock(&g_mu); free(s); return CUDA_SUCCESS; }
FN cuMemMap(CUdeviceptr p, size_t n, size_t o, CUmemGenericAllocationHandle h, unsigned long long f) { E0; (void)o;(void)h;(void)f; CHECK_DPTR(p, n); return CUDA_SUCCESS; }
FN cuMemUnmap(CUdeviceptr p, size_t n) { E0; CHECK_DPTR(p, n); return CUDA_SUCCESS; }
FN cuMemSetAccess(CUdeviceptr p, size_t n, const CUmemAccessDesc *d, size_t c) { E0; (void)d;(void)c; CHECK_DPTR(p, n); return CUDA_SUCCESS; }

/* ------------------------------------------------------------------ modules, kernels */
typedef struct Sym { char *name; uintptr_t p; size_t n; struct Sym *next; } Sym;
typedef struct CUfunc_st { uint32_t magic; char *name; struct CUmod_st *mod; int attr[16], blk[3]; unsigned dyn; struct CUfunc_st *next; } Func;
typedef struct CUmod_st { uint32_t magic; const void *image; Func *fn; Sym *sym; } Module;
static size_t g_symbytes = 1 << 16;      /* size given to any global: real sizes would need ELF parsing */
static CUresult mod_new(void *out, const void *image) {
    Module *m = calloc(1, sizeof *m); m->magic = M_MODULE; m->image = image; *(Module **)out = m; g_live_module++; return CUDA_SUCCESS;
}
static CUresult mod_func(void *out, Module *m, const char *name) {
    if (!m || m->magic != M_MODULE) return CUDA_ERROR_INVALID_HANDLE;
    if (!out || !name) return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&g_mu);
    Func *f = m->fn;
    while (f && strcmp(f->name, name)) f = f->next;
    if (!f) {
        f = calloc(1, sizeof *f); f->magic = M_FUNC; f->name = strdup(name); f->mod = m; f->next = m->fn; m->fn = f;
        f->attr[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = 1024; f->attr[CU_FUNC_ATTRIBUTE_NUM_REGS] = 32;
        f->attr[CU_FUNC_ATTRIBUTE_PTX_VERSION] = f->attr[CU_FUNC_ATTRIBUTE_BINARY_VERSION] = D.major * 10 + D.minor;
        f->attr[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES] = 49152; f->attr[CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT] = -1;
    }
    *(Func **)out = f;
    pthread_mutex_unlock(&g_mu);
    return CUDA_SUCCESS;
}
static CUresult mod_global(CUdeviceptr *p, size_t *n, Module *m, const char *name) {
    if (!m || m->magic != M_MODULE) return CUDA_ERROR_INVALID_HANDLE;
    Sym *s = m->sym;
    while (s && strcmp(s->name, name)) s = s->next;
    if (!s) {
        s = calloc(1, sizeof *s); s->name = strdup(name); s->n = g_symbytes;
        CUresult r = mem_alloc(&s->p, s->n, K_DEV, 0); if (r) { free(s->name); free(s); return r; }
        s->next = m->sym; m->sym = s;
    }
    if (p) *p = s->p;
    if (n) *n = s->n;
    return CUDA_SUCCESS;
}
FN cuModuleLoadData(CUmodule *m, const void *i) { L("%p", i); FAULT; CHECK_PTR(m); CHECK_PTR(i); CHECK_CTX; return mod_new(m, i); }
FN cuModuleLoadDataEx(CUmodule *m, const void *i, unsigned n, CUjit_option *o, void **v) { L("%p", i); (void)n;(void)o;(void)v; FAULT; CHECK_PTR(m); CHECK_PTR(i); CHECK_CTX; return mod_new(m, i); }
FN cuModuleLoadFatBinary(CUmodule *m, const void *i) { L("%p", i); FAULT; CHECK_PTR(m); CHECK_PTR(i); CHECK_CTX; return mod_new(m, i); }
FN cuModuleLoad(CUmodule *m, const char *f) { L("%s", f); FAULT; CHECK_PTR(m); CHECK_CTX; if (access(f, R_OK)) FAIL(CUDA_ERROR_FILE_NOT_FOUND); return mod_new(m, NULL); }
FN cuModuleUnload(CUmodule m) { E0; Module *x = (Module *)m; if (!x || x->magic != M_MODULE) FAIL(CUDA_ERROR_INVALID_HANDLE); finish_all(); x->magic = 0; g_live_module--; for (Sym *s = x->sym; s; s = s->next) mem_free(s->p, K_DEV); x->sym = NULL; return CUDA_SUCCESS; }
FN cuModuleGetFunction(CUfunction *f, CUmodule m, const char *s) { L("%s", s); CUresult r = mod_func(f, (Module *)m, s); if (r) FAIL(r); return r; }
FN cuModuleGetGlobal(CUdeviceptr *p, size_t *n, CUmodule m, const char *s) { L("%s", s); CUresult r = mod_global(p, n, (Module *)m, s); if (r) FAIL(r); return r; }
FN cuModuleGetLoadingMode(CUmoduleLoadingMode *m) { E0; const char *s = getenv("CUDA_MODULE_LOADING"); *m = s && !strcmp(s, "EAGER") ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING; return CUDA_SUCCESS; }
FN cuModuleGetTexRef(CUtexref *t, CUmodule m, const char *s) { L("%s", s); (void)m; *t = (CUtexref)calloc(1, 64); return CUDA_SUCCESS; }
FN cuModuleGetSurfRef(CUsurfref *t, CUmodule m, const char *s) { L("%s", s); (void)m; *t = (CUsurfref)calloc(1, 64); return CUDA_SUCCESS; }
FN cuLibraryLoadData(CUlibrary *m, const void *i, CUjit_option *o, void **ov, unsigned no, CUlibraryOption *lo, void **lv, unsigned nl) { L("%p", i); (void)o;(void)ov;(void)no;(void)lo;(void)lv;(void)nl; CHECK_PTR(m); CHECK_PTR(i); return mod_new(m, i); }
FN cuLibraryLoadFromFile(CUlibrary *m, const char *f, CUjit_option *o, void **ov, unsigned no, CUlibraryOption *lo, void **lv, unsigned nl) { L("%s", f); (void)o;(void)ov;(void)no;(void)lo;(void)lv;(void)nl; CHECK_PTR(m); if (access(f, R_OK)) FAIL(CUDA_ERROR_FILE_NOT_FOUND); return mod_new(m, NULL); }
FN cuLibraryUnload(CUlibrary m) { E0; return cuModuleUnload((CUmodule)m); }
FN cuLibraryGetKernel(CUkernel *k, CUlibrary m, const char *s) { L("%s", s); CUresult r = mod_func(k, (Module *)m, s); if (r) FAIL(r); return r; }
FN cuLibraryGetModule(CUmodule *o, CUlibrary m) { E0; *o = (CUmodule)m; return CUDA_SUCCESS; }
FN cuLibraryGetGlobal(CUdeviceptr *p, size_t *n, CUlibrary m, const char *s) { L("%s", s); CUresult r = mod_global(p, n, (Module *)m, s); if (r) FAIL(r); return r; }
FN cuLibraryGetManaged(CUdeviceptr *p, size_t *n, CUlibrary m, const char *s) { L("%s", s); CUresult r = mod_global(p, n, (Module *)m, s); if (r) FAIL(r); return r; }
FN cuKernelGetFunction(CUfunction *f, CUkernel k) { E0; CHECK_PTR(k); *f = (CUfunction)k; return CUDA_SUCCESS; }
FN cuKernelGetLibrary(CUlibrary *l, CUkernel k) { E0; CHECK_PTR(k); *l = (CUlibrary)((Func *)k)->mod; return CUDA_SUCCESS; }
static Func *func(const void *h) { Func *f = (Func *)h; return f && f->magic == M_FUNC ? f : NULL; }
FN cuFuncGetAttribute(int *v, CUfunction_attribute a, CUfunction h) { L("%d", (int)a); Func *f = func(h); if (!f) FAIL(CUDA_ERROR_INVALID_HANDLE); if (!v || (unsigned)a > 15) FAIL(CUDA_ERROR_INVALID_VALUE); *v = f->attr[a]; return CUDA_SUCCESS; }
FN cuFuncSetAttribute(CUfunction h, CUfunction_attribute a, int v) {
    L("%d, %d", (int)a, v); Func *f = func(h); if (!f) FAIL(CUDA_ERROR_INVALID_HANDLE); if ((unsigned)a > 15) FAIL(CUDA_ERROR_INVALID_VALUE);
    if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && v > D.smem_optin) FAILW(CUDA_ERROR_INVALID_VALUE, "more shared memory than the device has");
    f->attr[a] = v; return CUDA_SUCCESS;
}
FN cuKernelGetAttribute(int *v, CUfunction_attribute a, CUkernel k, CUdevice d) { (void)d; return cuFuncGetAttribute(v, a, (CUfunction)k); }
FN cuKernelSetAttribute(CUfunction_attribute a, int v, CUkernel k, CUdevice d) { (void)d; return cuFuncSetAttribute((CUfunction)k, a, v); }
FN cuKernelSetCacheConfig(CUkernel k, CUfunc_cache c, CUdevice d) { E0; (void)k;(void)c;(void)d; return CUDA_SUCCESS; }
FN cuFuncSetCacheConfig(CUfunction f, CUfunc_cache c) { E0; (void)c; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); return CUDA_SUCCESS; }
FN cuFuncSetSharedMemConfig(CUfunction f, CUsharedconfig c) { E0; (void)c; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); return CUDA_SUCCESS; }
FN cuFuncGetModule(CUmodule *m, CUfunction f) { E0; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); *m = (CUmodule)((Func *)f)->mod; return CUDA_SUCCESS; }
FN cuFuncGetName(const char **s, CUfunction f) { E0; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); *s = ((Func *)f)->name; return CUDA_SUCCESS; }
FN cuKernelGetName(const char **s, CUkernel f) { E0; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); *s = ((Func *)f)->name; return CUDA_SUCCESS; }
FN cuFuncIsLoaded(CUfunctionLoadingState *s, CUfunction f) { E0; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); *s = CU_FUNCTION_LOADING_STATE_LOADED; return CUDA_SUCCESS; }
FN cuFuncLoad(CUfunction f) { E0; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); return CUDA_SUCCESS; }
static CUresult launch(CUfunction h, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned smem, CUstream s) {
    Func *f = func(h); Stream *t = stm(s);
    if (!f || !t) return CUDA_ERROR_INVALID_HANDLE;
    uint64_t blocks = (uint64_t)gx * gy * gz, thr = (uint64_t)bx * by * bz;
    if (!blocks || !thr || thr > 1024 || bx > 1024 || by > 1024 || bz > 64 || gy > 65535 || gz > 65535) return CUDA_ERROR_INVALID_VALUE;
    if ((int)smem > f->attr[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES]) return CUDA_ERROR_INVALID_VALUE;
    uint64_t waves = (blocks * thr + (uint64_t)D.sms * D.thr_sm - 1) / ((uint64_t)D.sms * D.thr_sm);
    CUresult r = fault(__func__); if (r) return r;
    Op o = {.type = OP_KERNEL, .cost = 3000 + waves * 2000, .ud = f};
    return submit(t, &o);
}
FN cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned sm, CUstream s, void **p, void **e) {
    L("%s, %u,%u,%u, %u,%u,%u, %u", func(f) ? ((Func *)f)->name : "?", gx, gy, gz, bx, by, bz, sm); (void)p;(void)e; CHECK_CTX;
    CUresult r = launch(f, gx, gy, gz, bx, by, bz, sm, s); if (r) FAIL(r); return r;
}
FN cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **p, void **e) {
    CHECK_PTR(c); L("%s, %u,%u,%u, %u,%u,%u, %u", func(f) ? ((Func *)f)->name : "?", c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ, c->sharedMemBytes); (void)p;(void)e; CHECK_CTX;
    CUresult r = launch(f, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ, c->sharedMemBytes, c->hStream); if (r) FAIL(r); return r;
}
FN cuLaunchCooperativeKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned sm, CUstream s, void **p) {
    E0; (void)p; CHECK_CTX; CUresult r = launch(f, gx, gy, gz, bx, by, bz, sm, s); if (r) FAIL(r); return r;
}
/* launch calls of CUDA 3: state kept in the function (pycuda still uses them) */
FN cuFuncSetBlockShape(CUfunction h, int x, int y, int z) { L("%d,%d,%d", x, y, z); Func *f = func(h); if (!f) FAIL(CUDA_ERROR_INVALID_HANDLE); if (x < 1 || y < 1 || z < 1 || (long)x * y * z > 1024) FAIL(CUDA_ERROR_INVALID_VALUE); f->blk[0] = x; f->blk[1] = y; f->blk[2] = z; return CUDA_SUCCESS; }
FN cuFuncSetSharedSize(CUfunction h, unsigned n) { L("%u", n); Func *f = func(h); if (!f) FAIL(CUDA_ERROR_INVALID_HANDLE); f->dyn = n; return CUDA_SUCCESS; }
FN cuParamSetSize(CUfunction h, unsigned n) { L("%u", n); if (!func(h)) FAIL(CUDA_ERROR_INVALID_HANDLE); if (n > 4096) FAIL(CUDA_ERROR_INVALID_VALUE); return CUDA_SUCCESS; }
FN cuParamSeti(CUfunction h, int o, unsigned v) { L("%d, %u", o, v); if (!func(h)) FAIL(CUDA_ERROR_INVALID_HANDLE); return CUDA_SUCCESS; }
FN cuParamSetf(CUfunction h, int o, float v) { L("%d, %g", o, v); if (!func(h)) FAIL(CUDA_ERROR_INVALID_HANDLE); return CUDA_SUCCESS; }
FN cuParamSetv(CUfunction h, int o, void *p, unsigned n) { L("%d, %u", o, n); if (!func(h)) FAIL(CUDA_ERROR_INVALID_HANDLE); if (!p && n) FAIL(CUDA_ERROR_INVALID_VALUE); return CUDA_SUCCESS; }
FN cuLaunchGridAsync(CUfunction h, int gx, int gy, CUstream s) {
    L("%d,%d", gx, gy); CHECK_CTX; Func *f = func(h); if (!f) FAIL(CUDA_ERROR_INVALID_HANDLE);
    CUresult r = launch(h, gx, gy, 1, f->blk[0], f->blk[1], f->blk[2], f->dyn, s); if (r) FAIL(r); return r;
}
FN cuLaunchGrid(CUfunction h, int gx, int gy) { return cuLaunchGridAsync(h, gx, gy, 0); }
FN cuLaunch(CUfunction h) { return cuLaunchGridAsync(h, 1, 1, 0); }
static int occ(Func *f, int bs, size_t dyn) {
    if (bs <= 0) return 0;
    int w = (bs + 31) / 32, n = D.blk_sm, v = D.thr_sm / (w * 32); if (v < n) n = v;
    v = 65536 / (f->attr[CU_FUNC_ATTRIBUTE_NUM_REGS] * w * 32); if (v < n) n = v;
    size_t s = f->attr[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES] + dyn + 1024; v = (int)((size_t)D.smem_sm / s); if (v < n) n = v;
    return n;
}
FN cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, CUfunction f, int bs, size_t dyn, unsigned fl) { L("%d, %zu", bs, dyn); (void)fl; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); *n = occ((Func *)f, bs, dyn); return CUDA_SUCCESS; }
FN cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, CUfunction f, int bs, size_t dyn) { return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n, f, bs, dyn, 0); }
FN cuOccupancyMaxPotentialBlockSizeWithFlags(int *g, int *b, CUfunction f, CUoccupancyB2DSize cb, size_t dyn, int lim, unsigned fl) {
    E0; (void)fl; if (!func(f)) FAIL(CUDA_ERROR_INVALID_HANDLE); int best = 0, bb = 32;
    for (int s = 32; s <= 1024 && (!lim || s <= lim); s += 32) { int o = occ((Func *)f, s, cb ? cb(s) : dyn) * s; if (o >= best) { best = o; bb = s; } }
    *b = bb; *g = best / bb * D.sms; return CUDA_SUCCESS;
}
FN cuOccupancyMaxPotentialBlockSize(int *g, int *b, CUfunction f, CUoccupancyB2DSize cb, size_t dyn, int lim) { return cuOccupancyMaxPotentialBlockSizeWithFlags(g, b, f, cb, dyn, lim, 0); }
FN cuOccupancyAvailableDynamicSMemPerBlock(size_t *n, CUfunction f, int nb, int bs) { E0; (void)f;(void)bs; *n = nb ? D.smem_sm / nb - 1024 : 0; return CUDA_SUCCESS; }
FN cuOccupancyMaxActiveClusters(int *n, CUfunction f, const CUlaunchConfig *c) { E0; (void)f;(void)c; *n = D.sms / 2; return CUDA_SUCCESS; }
/* linker: accepts anything, gives back a dummy image */
FN cuLinkCreate(unsigned n, CUjit_option *o, void **v, CUlinkState *s) { E0; (void)n;(void)o;(void)v; *s = (CUlinkState)calloc(1, 64); return CUDA_SUCCESS; }
FN cuLinkAddData(CUlinkState s, CUjitInputType t, void *d, size_t n, const char *nm, unsigned no, CUjit_option *o, void **v) { E0; (void)s;(void)t;(void)d;(void)n;(void)nm;(void)no;(void)o;(void)v; return CUDA_SUCCESS; }
FN cuLinkAddFile(CUlinkState s, CUjitInputType t, const char *f, unsigned no, CUjit_option *o, void **v) { E0; (void)s;(void)t;(void)f;(void)no;(void)o;(void)v; return CUDA_SUCCESS; }
FN cuLinkComplete(CUlinkState s, void **d, size_t *n) { E0; *d = s; *n = 64; return CUDA_SUCCESS; }
FN cuLinkDestroy(CUlinkState s) { E0; free(s); return CUDA_SUCCESS; }
FN cuProfilerStart(void) { E0; return CUDA_SUCCESS; }
FN cuProfilerStop(void) { E0; return CUDA_SUCCESS; }
FN cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget t, CUflushGPUDirectRDMAWritesScope s) { E0; (void)t;(void)s; return CUDA_SUCCESS; }

/* ------------------------------------------------------------------ errors */
static const struct { CUresult r; const char *n, *s; } errs[] = {
#define E(x, t) {x, #x, t}
    E(CUDA_SUCCESS, "no error"), E(CUDA_ERROR_INVALID_VALUE, "invalid argument"), E(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    E(CUDA_ERROR_NOT_INITIALIZED, "initialization error"), E(CUDA_ERROR_DEINITIALIZED, "driver shutting down"), E(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    E(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"), E(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"), E(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    E(CUDA_ERROR_FILE_NOT_FOUND, "file not found"), E(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"), E(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    E(CUDA_ERROR_NOT_FOUND, "named symbol not found"), E(CUDA_ERROR_NOT_READY, "device not ready"), E(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    E(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices"), E(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled"),
    E(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"), E(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped"),
    E(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region"), E(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    E(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"), E(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"), E(CUDA_ERROR_UNSUPPORTED_LIMIT, "limit is not supported on this architecture"),
    E(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"), E(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not initiated in this stream"),
    E(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    E(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
    E(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    E(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph update was not performed because it included changes which violated constraints"), E(CUDA_ERROR_UNKNOWN, "unknown error"),
};
FN cuGetErrorName(CUresult r, const char **s) { CHECK_PTR(s); for (size_t i = 0; i < sizeof errs / sizeof *errs; i++) if (errs[i].r == r) { *s = errs[i].n; return CUDA_SUCCESS; } *s = NULL; return CUDA_ERROR_INVALID_VALUE; }
FN cuGetErrorString(CUresult r, const char **s) { CHECK_PTR(s); for (size_t i = 0; i < sizeof errs / sizeof *errs; i++) if (errs[i].r == r) { *s = errs[i].s; return CUDA_SUCCESS; } *s = NULL; return CUDA_ERROR_INVALID_VALUE; }

/* ------------------------------------------------------------------ symbol lookup */
/* names whose newest variant came with a given driver version (see cudaTypedefs.h); for all others the
 * highest suffix is the right one for any caller since CUDA 11 */
static const struct { const char *name; int since; const char *sym; } versioned[] = {
    {"cuCtxCreate", 12050, "cuCtxCreate_v4"}, {"cuCtxCreate", 11040, "cuCtxCreate_v3"}, {"cuCtxCreate", 0, "cuCtxCreate_v2"},
    {"cuCtxGetDevice", 13000, "cuCtxGetDevice_v2"}, {"cuCtxGetDevice", 0, "cuCtxGetDevice"},
    {"cuCtxSynchronize", 13000, "cuCtxSynchronize_v2"}, {"cuCtxSynchronize", 0, "cuCtxSynchronize"},
    {"cuDeviceGetUuid", 11040, "cuDeviceGetUuid_v2"}, {"cuDeviceGetUuid", 0, "cuDeviceGetUuid"},
    {"cuEventElapsedTime", 12080, "cuEventElapsedTime_v2"}, {"cuEventElapsedTime", 0, "cuEventElapsedTime"},
    {"cuGetProcAddress", 12000, "cuGetProcAddress_v2"}, {"cuGetProcAddress", 0, "cuGetProcAddress"},
    {"cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"}, {"cuGraphInstantiate", 0, "cuGraphInstantiate_v2"},
    {"cuGraphAddKernelNode", 12000, "cuGraphAddKernelNode_v2"}, {"cuGraphAddKernelNode", 0, "cuGraphAddKernelNode"},
    {"cuGraphKernelNodeGetParams", 12000, "cuGraphKernelNodeGetParams_v2"}, {"cuGraphKernelNodeGetParams", 0, "cuGraphKernelNodeGetParams"},
    {"cuGraphKernelNodeSetParams", 12000, "cuGraphKernelNodeSetParams_v2"}, {"cuGraphKernelNodeSetParams", 0, "cuGraphKernelNodeSetParams"},
    {"cuGraphExecKernelNodeSetParams", 12000, "cuGraphExecKernelNodeSetParams_v2"}, {"cuGraphExecKernelNodeSetParams", 0, "cuGraphExecKernelNodeSetParams"},
    {"cuGraphExecUpdate", 12000, "cuGraphExecUpdate_v2"}, {"cuGraphExecUpdate", 0, "cuGraphExecUpdate"},
    {"cuGraphAddDependencies", 12030, "cuGraphAddDependencies_v2"}, {"cuGraphAddDependencies", 0, "cuGraphAddDependencies"},
    {"cuGraphRemoveDependencies", 12030, "cuGraphRemoveDependencies_v2"}, {"cuGraphRemoveDependencies", 0, "cuGraphRemoveDependencies"},
    {"cuGraphGetEdges", 12030, "cuGraphGetEdges_v2"}, {"cuGraphGetEdges", 0, "cuGraphGetEdges"},
    {"cuGraphNodeGetDependencies", 12030, "cuGraphNodeGetDependencies_v2"}, {"cuGraphNodeGetDependencies", 0, "cuGraphNodeGetDependencies"},
    {"cuGraphNodeGetDependentNodes", 12030, "cuGraphNodeGetDependentNodes_v2"}, {"cuGraphNodeGetDependentNodes", 0, "cuGraphNodeGetDependentNodes"},
    {"cuGraphAddNode", 12030, "cuGraphAddNode_v2"}, {"cuGraphAddNode", 0, "cuGraphAddNode"},
    {"cuMemAdvise", 12020, "cuMemAdvise_v2"}, {"cuMemAdvise", 0, "cuMemAdvise"},
    {"cuMemPrefetchAsync", 12020, "cuMemPrefetchAsync_v2"}, {"cuMemPrefetchAsync", 0, "cuMemPrefetchAsync"},
    {"cuMemcpyBatchAsync", 13000, "cuMemcpyBatchAsync_v2"}, {"cuMemcpyBatchAsync", 0, "cuMemcpyBatchAsync"},
    {"cuMemcpy3DBatchAsync", 13000, "cuMemcpy3DBatchAsync_v2"}, {"cuMemcpy3DBatchAsync", 0, "cuMemcpy3DBatchAsync"},
    {"cuStreamGetCaptureInfo", 12030, "cuStreamGetCaptureInfo_v3"}, {"cuStreamGetCaptureInfo", 11030, "cuStreamGetCaptureInfo_v2"}, {"cuStreamGetCaptureInfo", 0, "cuStreamGetCaptureInfo"},
    {"cuStreamGetCtx", 12050, "cuStreamGetCtx_v2"}, {"cuStreamGetCtx", 0, "cuStreamGetCtx"},
    {"cuStreamUpdateCaptureDependencies", 12030, "cuStreamUpdateCaptureDependencies_v2"}, {"cuStreamUpdateCaptureDependencies", 0, "cuStreamUpdateCaptureDependencies"},
};
static void *sym_find(const char *s) {
    int lo = 0, hi = nullgpu_nsyms - 1;
    while (lo <= hi) { int m = (lo + hi) / 2, c = strcmp(s, nullgpu_syms[m].name); if (!c) return nullgpu_syms[m].fn; if (c < 0) hi = m - 1; else lo = m + 1; }
    return NULL;
}
static void *lookup(const char *name, int ver) {
    char b[128];
    for (size_t i = 0; i < sizeof versioned / sizeof *versioned; i++)
        if (!strcmp(name, versioned[i].name) && ver >= versioned[i].since) return sym_find(versioned[i].sym);
    for (int v = 4; v >= 2; v--) { snprintf(b, sizeof b, "%s_v%d", name, v); void *p = sym_find(b); if (p) return p; }
    return sym_find(name);
}
FN cuGetProcAddress_v2(const char *name, void **pfn, int ver, cuuint64_t flags, CUdriverProcAddressQueryResult *st) {
    L("%s, %d, %#llx", name, ver, (unsigned long long)flags); CHECK_PTR(name); CHECK_PTR(pfn);
    *pfn = *name ? lookup(name, ver) : NULL;
    if (st) *st = *pfn ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    if (!*pfn) FAILW(CUDA_ERROR_NOT_FOUND, name);
    return CUDA_SUCCESS;
}
#undef cuGetProcAddress
FN cuGetProcAddress(const char *name, void **pfn, int ver, cuuint64_t flags) { return cuGetProcAddress_v2(name, pfn, ver, flags, NULL); }

/* ------------------------------------------------------------------ export tables
 * None is offered.  The CUDA *runtime* (libcudart, also where linked statically: TensorRT, cuDNN, cuBLAS,
 * nvcc programs) asks here for private tables, among them one by which it authenticates NVIDIA's driver.
 * This double does not impersonate that driver, so runtime-API users fail at initialization, by design:
 * it serves driver-API users only (pycuda, cuda-python's driver module, hand-written C). */
FN cuGetExportTable(const void **out, const CUuuid *id) {
    const unsigned char *u = (const unsigned char *)id; char hex[33];
    CHECK_PTR(out); CHECK_PTR(id);
    for (int i = 0; i < 16; i++) sprintf(hex + 2 * i, "%02x", u[i]);
    L("%s", hex);
    *out = NULL;
    FAILW(CUDA_ERROR_NOT_SUPPORTED, "no private tables: CUDA runtime users are not served");
}

/* ------------------------------------------------------------------ control, for tests (nullgpu.h) */
int nullgpu_schedule(const char *s) {
    pthread_mutex_lock(&g_qmu);
    int ok = 1;
    if (!strcmp(s, "eager")) g_schedule = EAGER;
    else if (!strcmp(s, "lazy")) g_schedule = LAZY;
    else if (!strncmp(s, "random:", 7)) { g_schedule = RANDOM; g_seed = strtoull(s + 7, NULL, 10); }
    else ok = 0;
    if (ok && g_schedule == EAGER) while (run_any(0)) {}
    pthread_mutex_unlock(&g_qmu);
    return ok ? 0 : -1;
}
unsigned long nullgpu_pending(void) {
    unsigned long n = 0;
    pthread_mutex_lock(&g_qmu);
    for (Stream *s = g_streams; s; s = s->next) n += s->submitted - s->done;
    pthread_mutex_unlock(&g_qmu);
    return n;
}
void nullgpu_reset(void) {
    for (int i = 0; i < g_nstat; i++) g_stat[i].n = 0;
    for (int i = 0; i < 3; i++) g_copies[i] = g_bytes[i] = 0;
    g_syncs = g_hostfns = g_launches = 0;
    g_refuse_capture = 0;
    nullgpu_fail(0, 0, 0);
}
const char *nullgpu_call_name(int i) { return i >= 0 && i < g_nstat ? g_stat[i].name : NULL; }
unsigned long nullgpu_call_count(int i) { return i >= 0 && i < g_nstat ? g_stat[i].n : 0; }
unsigned long nullgpu_count(const char *what) {
    static const struct { const char *name; atomic_ulong *n; } counts[] = {
        {"h2d", &g_copies[H2D]}, {"d2h", &g_copies[D2H]}, {"d2d", &g_copies[D2D]}, {"h2d_bytes", &g_bytes[H2D]}, {"d2h_bytes", &g_bytes[D2H]},
        {"d2d_bytes", &g_bytes[D2D]}, {"syncs", &g_syncs}, {"host_functions", &g_hostfns}, {"kernels", &g_launches},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) if (!strcmp(what, counts[i].name)) return *counts[i].n;
    return (unsigned long)-1;
}
static long live_blocks(int kind, int kind2) {
    long n = 0;
    pthread_mutex_lock(&g_mu);
    for (int i = 0; i < nblk; i++) n += blk[i].kind == kind || blk[i].kind == kind2;
    pthread_mutex_unlock(&g_mu);
    return n;
}
long nullgpu_live(const char *what) {
    static const struct { const char *name; atomic_long *n; } counts[] = {
        {"streams", &g_live_stream}, {"events", &g_live_event}, {"graphs", &g_live_graph}, {"graph_execs", &g_live_exec},
        {"modules", &g_live_module}, {"contexts", &g_live_ctx},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) if (!strcmp(what, counts[i].name)) return *counts[i].n;
    if (!strcmp(what, "device")) return live_blocks(K_DEV, K_MANAGED);
    if (!strcmp(what, "host")) return live_blocks(K_HOST, K_REG);
    if (!strcmp(what, "device_bytes")) return (long)g_used;
    if (!strcmp(what, "primary")) return g_primary.refs;
    return -1;
}
int nullgpu_is_device(unsigned long long p, size_t n) { return on_device(p) && dev_range_ok(p, n); }
void nullgpu_fail(unsigned long n, int result, int sticky) {
    if (g_lost) finish_all();                   /* drops the work that was queued when the device was lost */
    g_lost = 0;
    g_fail_at = 0; g_failed = NULL; g_fail_result = result; g_fail_sticky = sticky;
    g_fallible = 0; g_fail_at = n;
}
unsigned long nullgpu_fallible(void) { return g_fallible; }
const char *nullgpu_failed(void) { return g_failed; }
void nullgpu_refuse_capture(int stage) { g_refuse_capture = stage; }
void nullgpu_fill(int on) { g_fill = on; }
