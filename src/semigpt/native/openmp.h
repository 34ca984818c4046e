/* OpenMP as the loops here use it, on PyTorch's own threads. GCC's code calls the runtime that
   PyTorch brings on Linux, GNU's. Clang's (and so zig's) calls LLVM's, which is another set of
   threads, or missing: these are the calls that its code makes, over GNU's. A loop is divided as
   GCC divides it, so both compilers give each thread the same rows. */

#ifdef _OPENMP
int omp_get_thread_num(void);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
#else
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_max_threads(void) { return 1; }
#endif

#if defined(_OPENMP) && defined(__clang__) && defined(__linux__)
#include <stdarg.h>

void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags);
void GOMP_barrier(void);
_Bool GOMP_single_start(void);

#define KMPC __attribute__((visibility("hidden"), used))
enum { SHARED = 48, STATIC = 34 }; /* variables of a region at most; the schedule's code */

typedef struct {
    void *region, *shared[SHARED];
} Region;

static __thread int asked_threads;

/* Every shared variable is passed as one word, so a region that takes fewer ignores the rest. */
static void run_region(void *data) {
    const Region *r = data;
    void *const *s = r->shared;
    int thread = omp_get_thread_num();
#define EIGHT(i) s[i], s[i + 1], s[i + 2], s[i + 3], s[i + 4], s[i + 5], s[i + 6], s[i + 7]
#define T8 void *, void *, void *, void *, void *, void *, void *, void *
    ((void (*)(int *, int *, T8, T8, T8, T8, T8, T8))r->region)(
        &thread, &thread, EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40));
#undef T8
#undef EIGHT
}

KMPC void __kmpc_fork_call(void *where, int32_t count, void *region, ...) {
    Region r = {region, {0}};
    unsigned threads = asked_threads;
    va_list shared;
    if (count > SHARED) __builtin_trap();
    va_start(shared, region);
    for (int i = 0; i < count; i++) r.shared[i] = va_arg(shared, void *);
    va_end(shared);
    asked_threads = 0;
    GOMP_parallel(run_region, &r, threads, 0);
}
KMPC void __kmpc_push_num_threads(void *where, int32_t thread, int32_t threads) {
    asked_threads = threads;
}
KMPC int32_t __kmpc_global_thread_num(void *where) { return omp_get_thread_num(); }
KMPC void __kmpc_barrier(void *where, int32_t thread) { GOMP_barrier(); }
KMPC int32_t __kmpc_single(void *where, int32_t thread) { return GOMP_single_start(); }
KMPC void __kmpc_end_single(void *where, int32_t thread) {}
/* A region whose `if` says no runs on the calling thread alone. */
KMPC void __kmpc_serialized_parallel(void *where, int32_t thread) {}
KMPC void __kmpc_end_serialized_parallel(void *where, int32_t thread) {}

/* This thread's part of iterations *lower to *upper, the latter included. */
#define STATIC_INIT(name, whole)                                                                 \
    KMPC void name(void *where, int32_t thread, int32_t schedule, int32_t *last, whole *lower,  \
                   whole *upper, whole *stride, whole increment, whole chunk) {                 \
        if (schedule != STATIC) __builtin_trap();                                               \
        whole count = (*upper - *lower) / increment + 1, threads = omp_get_num_threads();       \
        whole me = omp_get_thread_num(), share = count / threads, more = count % threads;       \
        whole first = share * me + (me < more ? me : more), end = first + share + (me < more);  \
        *stride = count * increment;                                                            \
        *last = end == count && end > first;                                                    \
        *upper = *lower + (end - 1) * increment;                                                \
        *lower += first * increment;                                                            \
    }
STATIC_INIT(__kmpc_for_static_init_4, int32_t)
STATIC_INIT(__kmpc_for_static_init_8, int64_t)
KMPC void __kmpc_for_static_fini(void *where, int32_t thread) {}
#undef STATIC_INIT
#undef KMPC
#endif
