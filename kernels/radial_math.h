/*
  The functions that profiles need beyond + - * /, of a number or of a vector of them (see radial.h).

      GramSqrt(s)      square root
      GramMax(a, b)    the larger, b a number
      GramNear(u)      u, but no more than 1021 (float: 125; on a GPU 1000) where GramExp2Neg() or a polynomial times it would overflow
      GramLog2(s)      log2(s), and a number at 0, to 2 units in the last place, for s up to 2^971 (float: 2^104)
      GramLog2Plus1(s) log2(1 + s), s >= 0, likewise, however small s is
      GramExp2Neg(u)   2^-u for u = GramNear(u) >= 0, to 1.2 units in the last place (float with the table: 2.6)

  2^-u: n = round(u) by adding and subtracting 1.5 * 2^52, whose last bits then hold -n: shifted into the exponent
  they are 2^-n. 2^-f, |f| <= 1/2, is a minimax polynomial with p(0) = 1: relative error 3.3e-17 and 1.6e-8.

  log2: m = 2^-n (w + c) in sqrt(1/2) ... sqrt(2), c what w lost by rounding, f = m - 1 and z = f / (2 + f):
  log m = 2 atanh z = f - (f^2 / 2 - z (f^2 / 2 + R(z^2))), R from fdlibm's e_log.c and e_logf.c: relative error 2^-58 and 2^-34.

  With AVX-512 and GRAM_INTRINSICS, n counts sixteenths (float: thirty-seconds), a table in two registers holds their
  powers, a shorter polynomial suffices (Chebyshev interpolation, relative error 1.4e-17 and 1.1e-7) and one
  instruction applies the exponent and saturates, so that u may go to 2^200 (float: 2^60, and 2^30 where a
  polynomial multiplies) unchecked.

  On a GPU float takes its special-function unit for roots and for 2^-u, 16 lanes a clock, or, with on_fma, the
  multiply-add pipe for 2^-u (128 lanes, 9 instructions, relative error 9.1e-8): loops that the unit limits send it only
  a share of their powers. Roots and powers of the unit are good to 2 units in the last place, powers below 2^-126 are 0.
  GramNear() is free there: u may go to 2^60 (2^30 where a polynomial multiplies). double: n counts thirty-seconds, lane
  l of a warp holds 2^(l/32) in registers and two shuffles look a power up, so that all 32 lanes must evaluate together;
  degree 5 then suffices (8.7e-17). Roots are a 20-bit seed and one step of third order, for s > 0: callers add 1e-300.
  Source of the split between unit and pipe: T. Dao et al., FlashAttention-4 (2025), for half precision.

  Never build this with -ffast-math: the rounding would be folded away.
*/
#pragma once

#define GRAM_IS_DOUBLE (sizeof(gram_scalar) == 8)
#define GRAM_TINY \
  (GRAM_IS_DOUBLE ? GRAM_C(1e-100) : GRAM_C(1e-12)) /* its cube is a number, and so is 1 / it */

#if defined(GRAM_DEVICE)
/* ---- a GPU: see the comment above */
  #if !defined(GRAM_CUDA_HOST) /* tests run device code on the host, with models of these three */
static __device__ __forceinline__ float GramEx2(float y)
{
  float r;

  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(y));
  return r;
}

static __device__ __forceinline__ float GramSqrtApprox(float s)
{
  float r;

  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(s));
  return r;
}

static __device__ __forceinline__ double GramRsqrtApprox(double s) /* to 2^-20 */
{
  double r;

  asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(s));
  return r;
}
  #endif

static __device__ __forceinline__ float GramSqrt(float s) { return GramSqrtApprox(s); }

static __device__ __forceinline__ double GramSqrt(double s)
{
  const double r = GramRsqrtApprox(s), h = s * r, e = fma(-h, r, 1.0); /* Halley: e^3 / 16 is left */

  return fma(h * e, fma(e, 0.375, 0.5), h);
}

static __device__ __forceinline__ float  GramMax(float a, float b) { return fmaxf(a, b); }
static __device__ __forceinline__ double GramMax(double a, double b) { return fmax(a, b); }

static __device__ __forceinline__ float  GramNear(float u) { return u; }
static __device__ __forceinline__ double GramNear(double u) /* an integer minimum of the high words */
{
  return __hiloint2double(min(__double2hiint(u), 0x408f3fff), __double2loint(u));
}

/* 2^y on the multiply-add pipe, -126 <= y < 127 */
static __device__ __forceinline__ float GramExp2Fma(float y)
{
  const float magic = 0x1.8p23f, m = __fadd_rn(y, magic), f = __fsub_rn(y, __fsub_rn(m, magic));
  float       p;

  p = fmaf(0x1.5bba0ap-10f, f, 0x1.3cea88p-7f);
  p = fmaf(p, f, 0x1.c6b752p-5f);
  p = fmaf(p, f, 0x1.ebf9bcp-3f);
  p = fmaf(p, f, 0x1.62e42ap-1f);
  p = fmaf(p, f, 1.0f);
  return __int_as_float(__float_as_int(p) + (int)((unsigned)__float_as_int(m) << 23));
}

template <bool on_fma> static __device__ __forceinline__ float GramExp2NegOn(float u)
{
  return on_fma ? GramExp2Fma(-fminf(u, 126.0f)) : GramEx2(-u);
}

/* [l] 2^(l/32) as two words, l << 15 taken off the high one */
static __device__ const int GramPowersHigh[32] = {
    0x3ff00000, 0x3fefd9b0, 0x3fefb558, 0x3fef9301, 0x3fef72b8, 0x3fef5487, 0x3fef387a, 0x3fef1e9d,
    0x3fef06fe, 0x3feef1a7, 0x3feedea6, 0x3feece08, 0x3feebfda, 0x3feeb42b, 0x3feeab07, 0x3feea47e,
    0x3feea09e, 0x3fee9f75, 0x3feea114, 0x3feea589, 0x3feeace5, 0x3feeb737, 0x3feec491, 0x3feed503,
    0x3feee89f, 0x3feeff76, 0x3fef199b, 0x3fef3720, 0x3fef5818, 0x3fef7c97, 0x3fefa4af, 0x3fefd076};
static __device__ const unsigned GramPowersLow[32] = {
    0x00000000, 0xd3158574, 0x6cf9890f, 0xd0125b51, 0x3c7d517b, 0x3168b9aa, 0x6e756238, 0xf51fdee1,
    0x0a31b715, 0x373aa9cb, 0x4c123422, 0x6061892d, 0xd5362a27, 0x569d4f82, 0xdd485429, 0xb03a5585,
    0x667f3bcd, 0xe8ec5f74, 0x73eb0187, 0x994cce13, 0x422aa0db, 0xb0cdc5e5, 0x82a3f090, 0xb23e255d,
    0x995ad3ad, 0xf2fb5e47, 0xdd85529c, 0xdcef9069, 0xdcfba487, 0x337b9b5f, 0xa2a490da, 0x5b6e4540};

template <bool on_fma> static __device__ __forceinline__ double GramExp2NegOn(double u)
{
  const double   magic = 0x1.8p47, m = __dsub_rn(magic, u), f = __dsub_rn(__dsub_rn(magic, m), u);
  const int      n    = __double2loint(m);
  const unsigned low  = __shfl_sync(0xffffffffu, GramPowersLow[threadIdx.x & 31], n);
  const int      high = __shfl_sync(0xffffffffu, GramPowersHigh[threadIdx.x & 31], n);
  double         p;

  p = fma(0x1.5d8789d60eb93p-10, f, 0x1.3b2b276c88654p-7);
  p = fma(p, f, 0x1.c6b08d70b74bcp-5);
  p = fma(p, f, 0x1.ebfbdff8098eep-3);
  p = fma(p, f, 0x1.62e42fefa39edp-1);
  p = fma(p, f, 1.0);
  return p * __hiloint2double(high + (int)((unsigned)n << 15), (int)low);
}

  #define GramExp2Neg GramExp2NegOn<on_fma>

/* in double 1e-300 is what callers add to 0: nothing is left of it */
static __device__ __forceinline__ float  GramLog2(float s) { return log2f(fmaxf(s, 0x1p-126f)); }
static __device__ __forceinline__ double GramLog2(double s) { return s < 1e-299 ? 0 : log2(s); }
static __device__ __forceinline__ float  GramLog2Plus1(float s) { return log1pf(s) * 1.44269504f; }
static __device__ __forceinline__ double GramLog2Plus1(double s) { return log1p(s) * 1.4426950408889634; }
#elif !defined(GRAM_VECTOR_BYTES)
GRAM_FN gram_real GramSqrt(gram_real s)
{
  return GRAM_IS_DOUBLE ? (gram_real)sqrt((double)s) : (gram_real)sqrtf((float)s);
}
GRAM_FN gram_real GramMin(gram_real a, gram_scalar b) { return a < b ? a : b; }
GRAM_FN gram_real GramMax(gram_real a, gram_scalar b) { return a > b ? a : b; }
#else
  #define GRAM_LANES ((int)(GRAM_VECTOR_BYTES / sizeof(gram_scalar)))
GRAM_FN gram_real GramSqrt(gram_real s) /* one instruction: compilers see it */
{
  for (int l = 0; l < GRAM_LANES; l++)
    s[l] = GRAM_IS_DOUBLE ? (gram_scalar)sqrt((double)s[l]) : (gram_scalar)sqrtf((float)s[l]);
  return s;
}

GRAM_FN gram_real GramMin(gram_real a, gram_scalar b)
{
  const gram_real bs = b - (gram_real){0};

  return (gram_real)(((a < bs) & (__typeof__(a < bs))a) | (~(a < bs) & (__typeof__(a < bs))bs));
}

GRAM_FN gram_real GramMax(gram_real a, gram_scalar b) { return -GramMin(-a, -b); }
#endif

#if !defined(GRAM_DEVICE)
/* unsigned integers of the same width, so that shifts may lose bits */
typedef __typeof__(__builtin_choose_expr(GRAM_IS_DOUBLE, (uint64_t)0, (uint32_t)0)) gram_word;
  #if defined(GRAM_VECTOR_BYTES)
typedef gram_word gram_bits __attribute__((vector_size(GRAM_VECTOR_BYTES)));
  #else
typedef gram_word gram_bits;
  #endif

  #define GRAM_WORD(x64, x32) (GRAM_IS_DOUBLE ? (gram_word)(x64) : (gram_word)(x32))

/* log2(w + c) - less, w a normal number, |c| at most half a unit in its last place; exact: c is 0, a literal */
GRAM_FN gram_real GramLog2Sum(gram_real w, gram_real c, int exact, gram_scalar less)
{
  const int       digits = GRAM_IS_DOUBLE ? 52 : 23;
  const gram_word one    = GRAM_WORD(0x3ff0000000000000, 0x3f800000), /* of 1, of sqrt(1/2) */
      least = GRAM_WORD(0x3fe6a09e667f3bcd, 0x3f3504f3), mantissa = GRAM_WORD(0x000fffffffffffff, 0x007fffff);
  const gram_scalar magic = GRAM_IS_DOUBLE ? GRAM_C(0x1p52) : GRAM_C(0x1p23),
                    bias  = GRAM_IS_DOUBLE ? GRAM_C(1023) : GRAM_C(127);
  gram_bits bits, n, back;
  gram_real m, count, scale, f, z, z2, half, r;

  memcpy(&bits, &w, sizeof bits);
  bits += one - least;
  n    = bits >> digits; /* the exponent, with its bias */
  back = (GRAM_WORD(2046, 254) - n) << digits;
  n    = n | GRAM_WORD(0x4330000000000000, 0x4b000000);
  bits = (bits & mantissa) + least;
  memcpy(&m, &bits, sizeof m);
  memcpy(&count, &n, sizeof count);
  memcpy(&scale, &back, sizeof scale);
  f    = exact ? m - 1 : (m - 1) + c * scale;
  z    = f / (2 + f);
  z2   = z * z;
  half = f * f * GRAM_C(0.5);
  if (GRAM_IS_DOUBLE) {
    r = z2 * GRAM_C(1.479819860511658591e-01) + GRAM_C(1.531383769920937332e-01);
    r = r * z2 + GRAM_C(1.818357216161805012e-01);
    r = r * z2 + GRAM_C(2.222219843214978396e-01);
    r = r * z2 + GRAM_C(2.857142874366239149e-01);
    r = r * z2 + GRAM_C(3.999999999940941908e-01);
    r = r * z2 + GRAM_C(6.666666666666735130e-01);
  } else {
    r = z2 * GRAM_C(0xf89e26p-26) + GRAM_C(0x91e9eep-25);
    r = r * z2 + GRAM_C(0xccce13p-25);
    r = r * z2 + GRAM_C(0xaaaaaap-24);
  }
  r = f - (half - z * (half + r * z2));
  return (count - (magic + bias + less)) + r * GRAM_C(1.4426950408889634);
}

GRAM_FN gram_real GramLog2(gram_real s) /* denormal numbers too */
{
  return GramLog2Sum(s * (GRAM_IS_DOUBLE ? GRAM_C(0x1p52) : GRAM_C(0x1p23)), s, 1,
                     GRAM_IS_DOUBLE ? GRAM_C(52) : GRAM_C(23));
}

GRAM_FN gram_real GramLog2Plus1(gram_real s)
{
  const gram_real x = GramMin(s, GRAM_IS_DOUBLE ? GRAM_C(0x1p1000) : GRAM_C(0x1p120)), w = 1 + x, t = w - 1;

  return GramLog2Sum(w, (x - t) + (1 - (w - t)), 0, 0); /* w and the rest are 1 + x exactly */
}
#endif

#if defined(GRAM_VECTOR_BYTES) && defined(GRAM_INTRINSICS) && defined(__AVX512F__)
  #include <immintrin.h>
/* [i] 2^(i/16), 2^(i/32) */
static const double GramPowers_f64[16] = {
    0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
    0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
    0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
    0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};
static const float GramPowers_f32[32] = {
    0x1.000000p+0f, 0x1.059b0ep+0f, 0x1.0b5586p+0f, 0x1.11301ep+0f, 0x1.172b84p+0f, 0x1.1d4874p+0f,
    0x1.2387a6p+0f, 0x1.29e9e0p+0f, 0x1.306fe0p+0f, 0x1.371a74p+0f, 0x1.3dea64p+0f, 0x1.44e086p+0f,
    0x1.4bfdaep+0f, 0x1.5342b6p+0f, 0x1.5ab07ep+0f, 0x1.6247ecp+0f, 0x1.6a09e6p+0f, 0x1.71f75ep+0f,
    0x1.7a1148p+0f, 0x1.82589ap+0f, 0x1.8ace54p+0f, 0x1.93737cp+0f, 0x1.9c4918p+0f, 0x1.a5503cp+0f,
    0x1.ae89fap+0f, 0x1.b7f770p+0f, 0x1.c199bep+0f, 0x1.cb720ep+0f, 0x1.d5818ep+0f, 0x1.dfc974p+0f,
    0x1.ea4afap+0f, 0x1.f50766p+0f};

GRAM_FN gram_real GramNear(gram_real u) { return u; }

GRAM_FN __m512d GramExp2Neg_f64(__m512d u)
{
  const __m512d magic = _mm512_set1_pd(0x1.8p48), m = magic - u, n = m - magic, f = u + n;
  const __m512d t = _mm512_permutex2var_pd(_mm512_loadu_pd(GramPowers_f64), _mm512_castpd_si512(m),
                                           _mm512_loadu_pd(GramPowers_f64 + 8));
  const __m512d e = _mm512_scalef_pd(t, n);
  __m512d       p;

  p = 0x1.430a1d08ec681p-13 * f - 0x1.5d897e525c216p-10;
  p = p * f + 0x1.3b2ab6fb41213p-7;
  p = p * f - 0x1.c6b08d6f2a289p-5;
  p = p * f + 0x1.ebfbdff82c590p-3;
  p = p * f - 0x1.62e42fefa39f3p-1;
  return e * (p * f) + e;
}

GRAM_FN __m512 GramExp2Neg_f32(__m512 u)
{
  const __m512 magic = _mm512_set1_ps(0x1.8p18f), m = magic - u, n = m - magic, f = u + n;
  const __m512 t = _mm512_permutex2var_ps(_mm512_loadu_ps(GramPowers_f32), _mm512_castps_si512(m),
                                          _mm512_loadu_ps(GramPowers_f32 + 16));
  const __m512 e = _mm512_scalef_ps(t, n), p = 0x1.ebfc7d8d9c075p-3f * f - 0x1.62e5134816082p-1f;

  return e * (p * f) + e;
}

GRAM_FN gram_real GramExp2Neg(gram_real u)
{
  return GRAM_IS_DOUBLE ? (gram_real)GramExp2Neg_f64((__m512d)u) : (gram_real)GramExp2Neg_f32((__m512)u);
}
#elif !defined(GRAM_DEVICE)
GRAM_FN gram_real GramNear(gram_real u) { return GramMin(u, GRAM_IS_DOUBLE ? GRAM_C(1021) : GRAM_C(125)); }

GRAM_FN gram_real GramExp2Neg(gram_real u)
{
  const gram_scalar magic = GRAM_IS_DOUBLE ? GRAM_C(0x1.8p52) : GRAM_C(0x1.8p23);
  const gram_real   m = magic - u, f = u + (m - magic);
  gram_real         p, scale;
  gram_bits         bits;

  memcpy(&bits, &m, sizeof bits);
  bits = (bits << (GRAM_IS_DOUBLE ? 52 : 23)) +
         (GRAM_IS_DOUBLE ? (gram_word)0x3ff0000000000000 : (gram_word)0x3f800000); /* the exponent of 1 */
  memcpy(&scale, &bits, sizeof scale);
  if (GRAM_IS_DOUBLE) {
    p = GRAM_C(-0x1.e770e30d19913p-32) * f + GRAM_C(0x1.e61c91a4fbb7fp-28);
    p = p * f - GRAM_C(0x1.b5269b072f7a6p-24);
    p = p * f + GRAM_C(0x1.62bfc6da1ffe7p-20);
    p = p * f - GRAM_C(0x1.ffcbfb9a24e3cp-17);
    p = p * f + GRAM_C(0x1.4309130f29d99p-13);
    p = p * f - GRAM_C(0x1.5d87fe78d0cafp-10);
    p = p * f + GRAM_C(0x1.3b2ab6fb9ff77p-7);
    p = p * f - GRAM_C(0x1.c6b08d7049fd5p-5);
    p = p * f + GRAM_C(0x1.ebfbdff82c5a5p-3);
    p = p * f - GRAM_C(0x1.62e42fefa39efp-1);
  } else {
    p = GRAM_C(0x1.41fdp-13) * f - GRAM_C(0x1.5f3e2ep-10);
    p = p * f + GRAM_C(0x1.3b2d4ap-7);
    p = p * f - GRAM_C(0x1.c6aee8p-5);
    p = p * f + GRAM_C(0x1.ebfbdcp-3);
    p = p * f - GRAM_C(0x1.62e430p-1);
  }
  p = p * f + GRAM_C(1);
  return p * scale;
}
#endif
