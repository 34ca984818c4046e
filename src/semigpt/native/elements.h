/* The numbers between the products of a GPT, in bfloat16 where BFLOAT16 is defined, else
   float32, and what a training step and an evaluation do with them alike. Include vectors.h
   first. */

#ifdef BFLOAT16
typedef uint16_t element;
typedef uint16_t vhalf __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
static inline vfloat load(const element *p) {
    return (vfloat)(__builtin_convertvector(*(const vhalf *)p, vuint) << 16);
}
static inline void store(element *p, vfloat x) { /* to the nearest, ties to even */
#if LANES == 16 && defined(__AVX512BF16__)
    __m256bh nearest = _mm512_cvtneps_pbh((__m512)x);
    memcpy(p, &nearest, 32);
    return;
#endif
    vuint bits = (vuint)x;
    *(vhalf *)p = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, vhalf);
}
static inline float load_one(const element *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline void store_one(element *p, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    *p = (element)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#else
typedef float element;
static inline vfloat load(const element *p) { return *(const vfloat *)p; }
static inline void store(element *p, vfloat x) { *(vfloat *)p = x; }
static inline float load_one(const element *p) { return *p; }
static inline void store_one(element *p, float x) { *p = x; }
#endif

/* One head of one row: RMS norm, rotation by the position's angles (pairs i and i + D/2), times
   `factor`. */
static inline void head(int D, float epsilon, const element *x, const float *weight,
                        const float *cosine, const float *sine, float factor, element *y) {
    const int half = D / 2;
    vfloat squares = {};
    for (int d = 0; d < D; d += LANES) squares += load(x + d) * load(x + d);
    float scale = factor / sqrtf(sum_lanes(squares) / D + epsilon);
    for (int d = 0; d < half; d += LANES) {
        vfloat left = load(x + d) * scale * loadf(weight + d);
        vfloat right = load(x + half + d) * scale * loadf(weight + half + d);
        vfloat c = loadf(cosine + d), s = loadf(sine + d);
        store(y + d, left * c - right * s);
        store(y + half + d, right * c + left * s);
    }
}
