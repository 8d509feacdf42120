/*
  The functions that profiles need beyond + - * /, of a number or of a vector of them (see radial.h).

      GramSqrt(s)      square root
      GramMax(a, b)    the larger, b a number
      GramNear(u)      u, but no more than 1021 (float: 125) where GramExp2Neg() or a polynomial times it would overflow
      GramExp2Neg(u)   2^-u for u = GramNear(u) >= 0, to 1.2 units in the last place (float with the table: 2.6)

  2^-u: n = round(u) by adding and subtracting 1.5 * 2^52, whose last bits then hold -n: shifted into the exponent
  they are 2^-n. 2^-f, |f| <= 1/2, is a minimax polynomial with p(0) = 1: relative error 3.3e-17 and 1.6e-8.

  With AVX-512 and GRAM_INTRINSICS, n counts sixteenths (float: thirty-seconds), a table in two registers holds their
  powers, a shorter polynomial suffices (Chebyshev interpolation, relative error 1.4e-17 and 1.1e-7) and one
  instruction applies the exponent and saturates, so that u may go to 2^200 (float: 2^60, and 2^30 where a
  polynomial multiplies) unchecked.

  Never build this with -ffast-math: the rounding would be folded away.
*/
#pragma once

#define GRAM_IS_DOUBLE (sizeof(gram_scalar) == 8)
#define GRAM_TINY \
  (GRAM_IS_DOUBLE ? GRAM_C(1e-100) : GRAM_C(1e-12)) /* its cube is a number, and so is 1 / it */

#if defined(__CUDACC__)
GRAM_FN float  GramSqrt(float s) { return sqrtf(s); }
GRAM_FN double GramSqrt(double s) { return sqrt(s); }
GRAM_FN float  GramMax(float a, float b) { return fmaxf(a, b); }
GRAM_FN double GramMax(double a, double b) { return fmax(a, b); }
GRAM_FN float  GramNear(float u) { return fminf(u, 125.0f); }
GRAM_FN double GramNear(double u) { return fmin(u, 1021.0); }
GRAM_FN float  GramExp2Neg(float u) { return exp2f(-u); }
GRAM_FN double GramExp2Neg(double u) { return exp2(-u); }
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
#elif !defined(__CUDACC__)
/* unsigned integers of the same width, so that shifts may lose bits */
typedef __typeof__(__builtin_choose_expr(GRAM_IS_DOUBLE, (uint64_t)0, (uint32_t)0)) gram_word;
  #if defined(GRAM_VECTOR_BYTES)
typedef gram_word gram_bits __attribute__((vector_size(GRAM_VECTOR_BYTES)));
  #else
typedef gram_word gram_bits;
  #endif

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
