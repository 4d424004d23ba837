/* make test */
#include <cuda.h>
#include "nullgpu.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
static int bad, n;
#define EQ(x, want) do { long a_ = (long)(x), b_ = (long)(want); n++; if (a_ != b_) { bad++; printf("%d: %s = %ld, want %ld\n", __LINE__, #x, a_, b_); } } while (0)
static CUcontext ctx; static int hostfn;
static void hf(void *p) { (void)p; hostfn++; }
static void *worker(void *arg) {
    int seed = (int)(long)arg; CUdeviceptr p[64] = {0}; CUstream s; CUevent e;
    EQ(cuMemAlloc(&p[0], 16), CUDA_ERROR_INVALID_CONTEXT);
    cuCtxSetCurrent(ctx); cuStreamCreate(&s, 1); cuEventCreate(&e, 0);
    for (int i = 0; i < 20000; i++) {
        int k = (i * 7 + seed) % 64; size_t sz = 1 + (size_t)(i * 2654435761u >> 12) % 300000;
        if (p[k]) { if (cuMemFree(p[k])) bad++; p[k] = 0; }
        else { if (cuMemAlloc(&p[k], sz)) bad++; if (cuMemsetD8Async(p[k], i, sz < 64 ? sz : 64, s)) bad++; unsigned char b; if (cuMemcpyDtoH(&b, p[k], 1) || b != (unsigned char)i) bad++; cuEventRecord(e, s); }
    }
    for (int k = 0; k < 64; k++) if (p[k]) cuMemFree(p[k]);
    cuStreamDestroy(s); cuEventDestroy(e); return NULL;
}
/* queues: schedules, counters, refused captures and injected faults */
static void *polling(void *e) { cuCtxSetCurrent(ctx); while (cuEventQuery((CUevent)e) == CUDA_ERROR_NOT_READY) {} return NULL; }
static void queues(void) {
    CUdeviceptr p; CUstream s, w; CUevent e, f; CUgraph g = NULL; CUgraphExec x; unsigned char *m, *h, page[8], got[8]; pthread_t t; float ms;
    EQ(cuMemAlloc(&p, 8), 0); EQ(cuMemHostAlloc((void **)&m, 8, 0), 0); EQ(cuMemHostAlloc((void **)&h, 8, 0), 0);
    EQ(cuStreamCreate(&s, 1), 0); EQ(cuStreamCreate(&w, 1), 0); EQ(cuEventCreate(&e, 0), 0); EQ(cuEventCreate(&f, 0), 0);
    EQ(nullgpu_schedule("sometimes"), -1); EQ(nullgpu_schedule("lazy"), 0); nullgpu_reset();
    /* page-locked memory is read when the copy runs, pageable memory when it is queued */
    memset(m, 1, 8); memset(h, 0, 8); memset(page, 5, 8); hostfn = 0;
    EQ(cuMemcpyHtoDAsync(p, m, 8, s), 0); EQ(cuEventRecord(e, s), 0); EQ(cuStreamWaitEvent(w, e, 0), 0); EQ(cuMemcpyDtoHAsync(h, p, 8, w), 0);
    EQ(nullgpu_pending(), 4); EQ(h[0], 0); memset(m, 2, 8); EQ(cuEventElapsedTime(&ms, e, e), CUDA_ERROR_NOT_READY);
    EQ(cuMemcpyHtoDAsync(p, page, 8, s), 0); memset(page, 6, 8);
    EQ(cuStreamSynchronize(w), 0); EQ(h[0], 2); EQ(nullgpu_pending(), 1); EQ(cuStreamSynchronize(s), 0); EQ(cuMemcpyDtoH(got, p, 8), 0); EQ(got[7], 5);
    EQ(nullgpu_count("h2d"), 2); EQ(nullgpu_count("d2h"), 2); EQ(nullgpu_count("d2h_bytes"), 16); EQ(nullgpu_count("syncs"), 3); EQ(nullgpu_count("nothing"), -1);
    /* a wait refers to the latest record at the time when it was queued */
    EQ(cuLaunchHostFunc(s, hf, NULL), 0); EQ(cuEventRecord(e, s), 0); EQ(cuStreamWaitEvent(w, e, 0), 0); EQ(cuLaunchHostFunc(s, hf, NULL), 0); EQ(cuEventRecord(e, s), 0);
    EQ(cuStreamSynchronize(w), 0); EQ(hostfn, 1); EQ(cuEventSynchronize(e), 0); EQ(hostfn, 2); EQ(nullgpu_pending(), 0);
    /* polling lets the work finish, from another thread too */
    EQ(cuLaunchHostFunc(s, hf, NULL), 0); EQ(cuEventRecord(f, s), 0); EQ(cuStreamWaitEvent(w, f, 0), 0); EQ(cuEventRecord(e, w), 0);
    EQ(cuStreamQuery(w), CUDA_ERROR_NOT_READY); pthread_create(&t, NULL, polling, e); pthread_join(t, NULL); EQ(hostfn, 3); EQ(cuEventQuery(e), 0); EQ(cuEventElapsedTime(&ms, f, e), 0);
    /* destroying and freeing wait; only blocking streams delay the legacy stream */
    EQ(cuMemsetD8Async(p, 9, 8, s), 0); EQ(cuMemcpyDtoH(got, p, 8), 0); EQ(got[0], 5); EQ(nullgpu_pending(), 1); EQ(cuStreamDestroy(s), 0); EQ(nullgpu_pending(), 0);
    EQ(cuMemcpyDtoH(got, p, 8), 0); EQ(got[0], 9); EQ(cuStreamCreate(&s, 0), 0); EQ(cuMemsetD8Async(p, 3, 8, s), 0); EQ(cuMemcpyDtoH(got, p, 8), 0); EQ(got[0], 3);
    /* captures: refused, broken by an allocation or by waiting for uncaptured work; the stream stays usable */
    nullgpu_refuse_capture(NULLGPU_REFUSE_BEGIN); EQ(cuStreamBeginCapture(s, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    nullgpu_refuse_capture(NULLGPU_REFUSE_END); EQ(cuStreamBeginCapture(s, 0), 0); EQ(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED); EQ(g == NULL, 1);
    nullgpu_refuse_capture(NULLGPU_REFUSE_INSTANTIATE); EQ(cuStreamBeginCapture(s, 0), 0); EQ(cuStreamEndCapture(s, &g), 0); EQ(cuGraphInstantiate(&x, g, 0), CUDA_ERROR_NOT_SUPPORTED); EQ(cuGraphDestroy(g), 0);
    nullgpu_refuse_capture(NULLGPU_REFUSE_NOTHING); CUdeviceptr q;
    EQ(cuStreamBeginCapture(s, 0), 0); EQ(cuMemAlloc(&q, 8), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); EQ(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    EQ(cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED), 0); EQ(cuMemAlloc(&q, 8), 0); EQ(cuStreamEndCapture(s, &g), 0); EQ(cuGraphDestroy(g), 0); EQ(cuMemFree(q), 0);
    EQ(cuEventRecord(f, w), 0); EQ(cuStreamBeginCapture(s, 1), 0); EQ(cuStreamWaitEvent(s, f, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION); EQ(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    EQ(cuStreamBeginCapture(s, 1), 0); EQ(cuEventRecord(f, s), 0); EQ(cuEventQuery(f), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); EQ(cuStreamEndCapture(s, &g), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED); EQ(cuEventQuery(f), CUDA_ERROR_CAPTURED_EVENT);
    /* a graph's work is queued by a launch, on the memory as it is when it runs */
    EQ(cuStreamBeginCapture(s, 1), 0); EQ(cuMemcpyHtoDAsync(p, m, 8, s), 0); EQ(cuStreamEndCapture(s, &g), 0); EQ(cuGraphInstantiate(&x, g, 0), 0); EQ(cuGraphDestroy(g), 0);
    EQ(nullgpu_live("graph_execs"), 1); EQ(nullgpu_live("graphs"), 0); EQ(cuGraphLaunch(x, s), 0); memset(m, 8, 8); EQ(cuGraphExecDestroy(x), 0); EQ(cuMemcpyDtoH(got, p, 8), 0); EQ(got[0], 8);
    /* faults: the second call that can fail, then all of them; releasing works */
    nullgpu_fail(2, CUDA_ERROR_LAUNCH_FAILED, 0); EQ(cuMemcpyHtoDAsync(p, m, 8, s), 0); EQ(cuStreamSynchronize(s), CUDA_ERROR_LAUNCH_FAILED); EQ(strcmp(nullgpu_failed(), "cuStreamSynchronize"), 0); EQ(nullgpu_fallible(), 2);
    EQ(cuStreamSynchronize(s), 0); nullgpu_fail(1, CUDA_ERROR_OUT_OF_MEMORY, 1); EQ(cuMemAlloc(&q, 8), CUDA_ERROR_OUT_OF_MEMORY); EQ(cuStreamSynchronize(s), CUDA_ERROR_OUT_OF_MEMORY);
    EQ(cuStreamDestroy(s), 0); EQ(cuStreamDestroy(w), 0); EQ(cuEventDestroy(e), 0); EQ(cuEventDestroy(f), 0); EQ(cuMemFreeHost(m), 0); EQ(cuMemFreeHost(h), 0);
    nullgpu_reset(); EQ(nullgpu_live("host"), 0); EQ(nullgpu_live("streams"), 0); EQ(nullgpu_live("events"), 0); EQ(nullgpu_is_device(p, 8), 1); EQ(cuMemFree(p), 0); EQ(nullgpu_is_device(p, 8), 0);
    nullgpu_fill(1); EQ(cuMemAlloc(&p, 8), 0); EQ(cuMemcpyDtoH(got, p, 8), 0); EQ(got[7], 255); EQ(cuMemFree(p), 0); nullgpu_fill(0);
}
/* four threads, each with its own pair of streams, under a random schedule: every thread sees its own order kept */
static void *ordered(void *arg) {
    CUstream s, w; CUevent e; CUdeviceptr p; unsigned char *m, *h; int seed = (int)(long)arg;
    cuCtxSetCurrent(ctx); cuStreamCreate(&s, 1); cuStreamCreate(&w, 1); cuEventCreate(&e, 2); cuMemAlloc(&p, 64); cuMemHostAlloc((void **)&m, 64, 0); cuMemHostAlloc((void **)&h, 64, 0);
    for (int i = 0; i < 3000; i++) {
        memset(m, i + seed, 64); cuMemcpyHtoDAsync(p, m, 64, s); cuEventRecord(e, s); cuStreamWaitEvent(w, e, 0); cuMemcpyDtoHAsync(h, p, 64, w);
        if (cuStreamSynchronize(w) || h[63] != (unsigned char)(i + seed)) __atomic_fetch_add(&bad, 1, __ATOMIC_SEQ_CST);
    }
    cuStreamDestroy(s); cuStreamDestroy(w); cuEventDestroy(e); cuMemFree(p); cuMemFreeHost(m); cuMemFreeHost(h); return NULL;
}
int main(void) {
    CUdevice d; CUdeviceptr p, q; CUstream s, s2; CUevent e0, e1; CUmodule m; CUfunction f; CUgraph g; CUgraphExec ge; size_t fr, fr2, tot; float ms, ms2; int v; void *fn; unsigned char buf[64];
    EQ(cuDeviceGet(&d, 0), CUDA_ERROR_NOT_INITIALIZED); EQ(cuInit(0), 0); EQ(cuDeviceGet(&d, 0), 0); EQ(cuDeviceGet(&d, 1), CUDA_ERROR_INVALID_DEVICE);
    EQ(cuMemAlloc(&p, 4), CUDA_ERROR_INVALID_CONTEXT); EQ(cuDevicePrimaryCtxRetain(&ctx, 0), 0); EQ(cuCtxSetCurrent(ctx), 0);
    cuMemGetInfo(&fr, &tot); EQ(cuMemAlloc(&p, 1000), 0); EQ(cuMemAlloc(&q, 5 << 20), 0); EQ(cuMemAlloc(&q, 0), CUDA_ERROR_INVALID_VALUE); EQ(cuMemAlloc(&q, tot + 1), CUDA_ERROR_OUT_OF_MEMORY);
    EQ(cuMemcpyHtoD(p, buf, 64), 0); EQ(cuMemcpyHtoD(p + 1000, buf, 64), CUDA_ERROR_INVALID_VALUE); EQ(cuMemcpyDtoH(NULL, p, 4), CUDA_ERROR_INVALID_VALUE); EQ(cuMemcpyDtoH(buf, (CUdeviceptr)(size_t)buf, 4), CUDA_ERROR_INVALID_VALUE);
    EQ(cuMemsetD32(q, 0x01020304, 1000), 0); EQ(cuMemcpyDtoH(buf, q + 3996, 4), 0); EQ(buf[0], 4); EQ(cuMemsetD8(q, 0, 5 << 20), 0); EQ(cuMemcpyDtoH(buf, q + 3996, 4), 0); EQ(buf[0], 0);
    CUDA_MEMCPY2D c = {.srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = "abcdefghijkl", .srcPitch = 4, .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = p, .dstPitch = 16, .WidthInBytes = 2, .Height = 3};
    EQ(cuMemcpy2D(&c), 0); cuMemcpyDtoH(buf, p, 64); EQ(buf[16], 'e'); EQ(buf[33], 'j');
    EQ(cuPointerGetAttribute(&v, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + 5), 0); EQ(v, CU_MEMORYTYPE_DEVICE); EQ(cuPointerGetAttribute(&v, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(size_t)buf), CUDA_ERROR_INVALID_VALUE);
    EQ(cuMemHostRegister(buf, 64, 0), 0); EQ(cuMemHostRegister(buf, 64, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED); EQ(cuMemHostUnregister(buf), 0);
    EQ(cuStreamCreate(&s, 0), 0); EQ(cuStreamCreate(&s2, 1), 0); EQ(cuEventCreate(&e0, 0), 0); EQ(cuEventCreate(&e1, 0), 0); EQ(cuEventElapsedTime(&ms, e0, e1), CUDA_ERROR_INVALID_HANDLE);
    EQ(cuModuleLoadData(&m, "x"), 0); EQ(cuModuleGetFunction(&f, m, "k"), 0);
    EQ(cuLaunchKernel(f, 1, 1, 1, 2048, 1, 1, 0, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE); EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 60000, s, NULL, NULL), CUDA_ERROR_INVALID_VALUE); EQ(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 60000), 0); EQ(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 60000, s, NULL, NULL), 0);
    for (int i = 0; i < 2; i++) { cuEventRecord(e0, s); cuLaunchKernel(f, 100, 1, 1, 256, 1, 1, 0, s, NULL, NULL); cuEventRecord(e1, s); cuEventElapsedTime(i ? &ms2 : &ms, e0, e1); } EQ(ms == ms2 && ms > 0, 1);
    EQ(cuStreamBeginCapture(NULL, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); EQ(cuStreamBeginCapture(s, 0), 0); EQ(cuStreamSynchronize(s), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    cuMemsetD8(p, 1, 64); EQ(cuEventRecord(e0, s), 0); EQ(cuStreamWaitEvent(s2, e0, 0), 0); EQ(cuMemsetD8Async(p, 9, 64, s2), 0); EQ(cuLaunchHostFunc(s2, hf, NULL), 0); EQ(cuEventRecord(e1, s2), 0); EQ(cuStreamWaitEvent(s, e1, 0), 0);
    EQ(cuStreamEndCapture(s2, &g), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED); EQ(cuStreamEndCapture(s, &g), 0); cuMemcpyDtoH(buf, p, 64); EQ(buf[63], 1); EQ(hostfn, 0);
    EQ(cuGraphInstantiate(&ge, g, 0), 0); EQ(cuGraphDestroy(g), 0); EQ(cuGraphLaunch(ge, s), 0); EQ(cuGraphLaunch(ge, s), 0); cuMemcpyDtoH(buf, p, 64); EQ(buf[63], 9); EQ(hostfn, 2); EQ(cuGraphExecDestroy(ge), 0);
    EQ(cuMemsetD8Async(p, 5, 64, s2), 0); cuMemcpyDtoH(buf, p, 64); EQ(buf[0], 5);      /* the forked stream is out of capture again */
    EQ(cuGetProcAddress("cuMemAlloc", &fn, 12000, 0, NULL), 0); EQ(fn == (void *)cuMemAlloc, 1); EQ(cuGetProcAddress("cuNoSuch", &fn, 12000, 0, NULL), CUDA_ERROR_NOT_FOUND);
    EQ(cuStreamDestroy(s), 0); EQ(cuStreamDestroy(s2), 0); EQ(cuEventDestroy(e0), 0); EQ(cuEventDestroy(e1), 0); EQ(cuModuleUnload(m), 0);
    pthread_t t[4]; for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, worker, (void *)i); for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    EQ(cuMemFree(p), 0); EQ(cuMemFree(p), CUDA_ERROR_INVALID_VALUE); EQ(cuMemFree(q), 0); cuMemGetInfo(&fr2, &tot); EQ(fr2, fr);
    queues(); EQ(nullgpu_schedule("random:7"), 0); for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, ordered, (void *)i); for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    EQ(nullgpu_live("device"), 0); EQ(nullgpu_live("streams"), 0); EQ(nullgpu_pending(), 0); EQ(cuDevicePrimaryCtxRelease(0), 0); EQ(nullgpu_live("primary"), 0);
    printf("%d passed, %d failed\n", n - bad, bad); return bad != 0;
}
