/* Vectors of sixteen floats, as GCC's and Clang's `vector_size` gives them: one 512-bit register
   where the CPU has them, several smaller ones elsewhere. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Whether parallel loops use all cores: semigpt.native.compiler warns where they do not. */
#ifdef _OPENMP
#include <omp.h>
const int semigpt_has_openmp = 1;
#else
const int semigpt_has_openmp = 0;
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_max_threads(void) { return 1; }
#endif

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t v16i __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t v16u __attribute__((vector_size(64), aligned(4), may_alias));

enum { LANES = 16 };

static inline v16 loadf(const float *p) { return *(const v16 *)p; }
static inline void storef(float *p, v16 x) { *(v16 *)p = x; }

static inline v16 splat(float x) { return x - (v16){}; }
static inline v16 select_lanes(v16i mask, v16 yes, v16 no) {
    return (v16)(((v16i)yes & mask) | ((v16i)no & ~mask));
}

/* The larger of each lane; `y` where either is NaN. */
static inline v16 larger(v16 x, v16 y) {
#ifdef __AVX512F__
    return (v16)_mm512_max_ps((__m512)x, (__m512)y);
#else
    return select_lanes(x > y, x, y);
#endif
}

/* e^x with a relative error of about 1e-7. x is clamped to -87 and 88, where e^x is a normal float.
   Range reduction and polynomial as in Cephes' expf. */
static inline v16 vexp(v16 x) {
    x = select_lanes(x < -87.0f, splat(-87.0f), x);
    x = select_lanes(x > 88.0f, splat(88.0f), x);
    v16 n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    v16 r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    v16 p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (v16)((__builtin_convertvector(n, v16i) + 127) << 23);
}

static inline float sum_lanes(v16 x) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += x[i];
    return total;
}

static inline float largest_lane(v16 x) {
    float most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}
