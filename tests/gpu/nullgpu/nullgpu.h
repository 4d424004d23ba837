/* nullgpu.h - functions that tests use to query and control the simulated driver; libcuda.so.1 exports them too */
#ifndef NULLGPU_H
#define NULLGPU_H
#include <stddef.h>
#pragma GCC visibility push(default)

/* When queued work runs: "eager", "lazy" or "random:SEED". 0, or -1 for an unknown name. */
int nullgpu_schedule(const char *name);
/* Operations that are queued and have not run. */
unsigned long nullgpu_pending(void);

/* Set all counts to zero, no fault, captures allowed. Schedule and live objects stay. */
void nullgpu_reset(void);
/* The i-th call seen so far, as "cuMemAlloc_v2", and its count; NULL after the last. */
const char *nullgpu_call_name(int i);
unsigned long nullgpu_call_count(int i);
/* Work done by the device, graph replays included: h2d, d2h, d2d (copies), h2d_bytes, d2h_bytes, d2d_bytes, kernels,
 * host_functions; and syncs: waits of the host (synchronise calls, synchronous copies, copies to pageable memory). */
unsigned long nullgpu_count(const char *what);
/* Live now: device, host (allocations), device_bytes, streams, events, graphs, graph_execs, modules, contexts (own ones),
 * primary (references to the primary context). */
long nullgpu_live(const char *what);
/* Does [p, p + n) lie in one live device allocation? */
int nullgpu_is_device(unsigned long long p, size_t n);

/* The n-th fallible call from now returns `result` and does nothing else; 0: none. Sticky: all later ones fail too, and
 * queued work is dropped, as when a context is lost. Fallible are: cuInit, creating contexts, retaining the primary one, cuMemGetInfo, allocating and
 * registering memory, creating streams, events, arrays, graphs and modules, copies and sets, recording and waiting for
 * events, synchronising, launching kernels and host functions, beginning and ending captures, instantiating, updating,
 * uploading and launching graphs. Not fallible: calls that release or look up something. */
void nullgpu_fail(unsigned long n, int result, int sticky);
/* Fallible calls since nullgpu_fail or nullgpu_reset, and the name of the first that was made to fail (NULL: none). */
unsigned long nullgpu_fallible(void);
const char *nullgpu_failed(void);

/* The stage at which captures are refused from now on. */
enum { NULLGPU_REFUSE_NOTHING, NULLGPU_REFUSE_BEGIN, NULLGPU_REFUSE_END, NULLGPU_REFUSE_INSTANTIATE };
void nullgpu_refuse_capture(int stage);
/* Fill new memory with 0xff bytes (1), or leave zeros and leftovers in it (0). */
void nullgpu_fill(int on);

#pragma GCC visibility pop
#endif
