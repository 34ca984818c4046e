/* Vectors of floats, as GCC's and Clang's `vector_size` gives them. LANES is what one register of
   the CPU holds: GCC takes a wider vector apart through memory (its bug 107916), and a step of
   `blocks` in vectors of 16 ran at a tenth of its speed on a CPU with registers of 8. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "openmp.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef LANES
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#endif

/* How many such registers there are: what a loop may keep in them. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

/* Before a loop over an array of sums: only unrolled are they in registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* f(0, x), f(1, x) ... of each lane: constants, for a list in braces. */
#define FOUR(f, first, x) f(first, x), f(first + 1, x), f(first + 2, x), f(first + 3, x)
#if LANES == 16
#define EACH_LANE(f, x) FOUR(f, 0, x), FOUR(f, 4, x), FOUR(f, 8, x), FOUR(f, 12, x)
#elif LANES == 8
#define EACH_LANE(f, x) FOUR(f, 0, x), FOUR(f, 4, x)
#else
#define EACH_LANE(f, x) FOUR(f, 0, x)
#endif

const int semigpt_lanes = LANES;

/* Whether parallel loops use all cores: semigpt.native.compiler warns where they do not. */
#ifdef _OPENMP
const int semigpt_has_openmp = 1;
#else
const int semigpt_has_openmp = 0;
#endif

typedef float vfloat __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vint __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t vuint __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vfloat loadf(const float *p) { return *(const vfloat *)p; }
static inline void storef(float *p, vfloat x) { *(vfloat *)p = x; }

static inline vfloat splat(float x) { return x - (vfloat){}; }
static inline vfloat select_lanes(vint mask, vfloat yes, vfloat no) {
    return (vfloat)(((vint)yes & mask) | ((vint)no & ~mask));
}

/* The larger, the smaller of each lane; `y` where either is NaN. */
static inline vfloat larger(vfloat x, vfloat y) {
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_max_ps((__m512)x, (__m512)y);
#elif LANES == 8 && defined(__AVX__)
    return (vfloat)_mm256_max_ps((__m256)x, (__m256)y);
#else
    return select_lanes(x > y, x, y);
#endif
}
static inline vfloat smaller(vfloat x, vfloat y) {
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_min_ps((__m512)x, (__m512)y);
#elif LANES == 8 && defined(__AVX__)
    return (vfloat)_mm256_min_ps((__m256)x, (__m256)y);
#else
    return select_lanes(x < y, x, y);
#endif
}

/* a b + sum in one rounding where the CPU has that. A compiler left to itself fuses some sums and
   not others (GCC for AMD: avoid-fma-max-bits), and then a batch of another size has other bits. */
static inline vfloat multiply_add(vfloat a, vfloat b, vfloat sum) {
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif LANES == 8 && defined(__FMA__)
    return (vfloat)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif LANES == 4 && defined(__aarch64__)
    return (vfloat)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + sum;
#endif
}

/* e^x with a relative error of about 1e-7. x is clamped to -87 and 88, where e^x is a normal float.
   Range reduction and polynomial as in Cephes' expf. */
static inline vfloat vexp(vfloat x) {
    x = smaller(splat(88.0f), larger(splat(-87.0f), x)); /* in this order NaN stays NaN */
    vfloat n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    vfloat r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vfloat p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vfloat)((__builtin_convertvector(n, vint) + 127) << 23);
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif

#define LANE(i, first) ((first) + (i)) % LANES

/* x in the first `count` lanes, `fill` in the others. */
static inline vfloat first_lanes(int count, vfloat x, float fill) {
    const vint lanes = {EACH_LANE(LANE, 0)};
    return select_lanes(lanes < count, x, splat(fill));
}

/* Halves of a register are added to each other, then quarters: a sum lane by lane would wait for
   each. */
#define FOLD(f)                                                 \
    if (LANES > 8) x = f(x, SHUFFLE(x, x, EACH_LANE(LANE, 8))); \
    if (LANES > 4) x = f(x, SHUFFLE(x, x, EACH_LANE(LANE, 4))); \
    x = f(x, SHUFFLE(x, x, EACH_LANE(LANE, 2)));                \
    x = f(x, SHUFFLE(x, x, EACH_LANE(LANE, 1)));
static inline vfloat add_lanes(vfloat x, vfloat y) { return x + y; }

static inline float sum_lanes(vfloat x) {
    FOLD(add_lanes)
    return x[0];
}

static inline float largest_lane(vfloat x) {
    FOLD(larger)
    return x[0];
}
#undef FOLD

/* Where lane i of each of two vectors, `step` apart in a matrix, comes from when their blocks of
   `step` lanes are exchanged: 0 to LANES - 1 are lanes of the first, LANES and up of the second. */
#define UPPER(i, step) ((i) & (step) ? LANES + (i) - (step) : (i))
#define LOWER(i, step) ((i) & (step) ? LANES + (i) : (i) + (step))
#define EXCHANGE(step)                                        \
    UNROLL for (int i = 0; i < LANES; i++) if (!(i & step)) { \
        vfloat a = x[i], b = x[i + step];                     \
        x[i] = SHUFFLE(a, b, EACH_LANE(UPPER, step));         \
        x[i + step] = SHUFFLE(a, b, EACH_LANE(LOWER, step));  \
    }

/* Transpose LANES vectors as a matrix. */
static inline __attribute__((always_inline)) void transpose(vfloat x[LANES]) {
    EXCHANGE(1)
    EXCHANGE(2)
#if LANES > 4
    EXCHANGE(4)
#endif
#if LANES > 8
    EXCHANGE(8)
#endif
}
