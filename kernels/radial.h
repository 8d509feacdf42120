/*
  Radial profiles phi, and the arithmetic they share.

  A profile is evaluated at s = (c r)^2, r the scaled distance |(x - z) / ell|. The unit c is chosen so that the
  exponential of the profile is a power of two without a further multiplication: coordinates are multiplied
  by c / ell once, and 2^-u costs a rounding, a polynomial and an integer shift.

      gaussian      exp(-r^2/2)            = 2^-s                  c = sqrt(log2(e) / 2)
      exponential   exp(-r)                = 2^-u                  c = log2(e),            u = sqrt(s)
      matern p+1/2  P_p(t) exp(-t)         = P_p(u ln 2) 2^-u      c = sqrt(2p+1) log2(e), t = sqrt(2 nu) r

  with P_p(t) = sum_k p! (p+k)! / ((2p)! k! (p-k)!) (2t)^(p-k), Rasmussen and Williams (2006), eq. 4.16.

  A file that evaluates profiles picks its precision first:  #define GRAM_REAL float // or double

  To add a profile, write its function, its line in GRAM_RADIAL_LIST and its formula in backend_ref.c: the
  option -kernel_type, the tiles of every backend and the tests expand from that line.
*/
#pragma once

/* X(enum suffix, function suffix, option value, 2 nu (0: none), order, unit c): order 0 is positive definite,
   order m > 0 only against polynomials of degree m - 1, so that the solve carries them as a tail */
#define GRAM_RADIAL_LIST(X)                                            \
  X(GAUSSIAN, Gaussian, "gaussian", 0, 0, 0.84932180028801910)         \
  X(EXPONENTIAL, Exponential, "exponential", 1, 0, 1.4426950408889634) \
  X(MATERN32, Matern32, "matern32", 3, 0, 2.4988211106473432)          \
  X(MATERN52, Matern52, "matern52", 5, 0, 3.2259641822295610)          \
  X(MATERN72, Matern72, "matern72", 7, 0, 3.8170122958983583)          \
  X(MATERN92, Matern92, "matern92", 9, 0, 4.3280851226668902)

#define GRAM_RADIAL_ENUM(UPPER, Camel, name, twonu, order, unit) GRAM_RADIAL_##UPPER,
typedef enum { GRAM_RADIAL_LIST(GRAM_RADIAL_ENUM) GRAM_RADIAL_COUNT } GramRadial;

#if defined(GRAM_REAL)
typedef GRAM_REAL gram_real;

  #if defined(__CUDACC__)
    #define GRAM_FN static __host__ __device__ __forceinline__
  #else
    #include <stdint.h>
    #include <string.h>
    #include <tgmath.h> /* sqrt follows the type of its argument, as it does in CUDA */
    #define GRAM_FN static inline __attribute__((always_inline))
  #endif

  #define GRAM_LN2 ((gram_real)0.69314718055994531)

  /*
    2^-u for u >= 0, to one unit in the last place; 2^-1021 (double), 2^-125 (float) and 0 are the same here.

    n = round(u) by adding and subtracting 1.5 * 2^52, whose last bits then hold -n: shifted into the exponent
    they are 2^-n. 2^-f, |f| <= 1/2, is a minimax polynomial with p(0) = 1: relative error 3.3e-17 and 1.6e-8.
    Never build this with -ffast-math: the rounding would be folded away.
  */
  #if defined(__CUDACC__)
GRAM_FN float  GramExp2Neg(float u) { return exp2f(-u); }
GRAM_FN double GramExp2Neg(double u) { return exp2(-u); }
  #else
GRAM_FN double GramExp2NegDouble(double u)
{
  double   t = u < 1021.0 ? u : 1021.0, m = 0x1.8p52 - t, f = t + (m - 0x1.8p52), scale, p;
  uint64_t bits;

  memcpy(&bits, &m, sizeof bits);
  bits = (bits << 52) + 0x3ff0000000000000u;
  memcpy(&scale, &bits, sizeof scale);
  p = -0x1.e770e30d19913p-32;
  p = p * f + 0x1.e61c91a4fbb7fp-28;
  p = p * f - 0x1.b5269b072f7a6p-24;
  p = p * f + 0x1.62bfc6da1ffe7p-20;
  p = p * f - 0x1.ffcbfb9a24e3cp-17;
  p = p * f + 0x1.4309130f29d99p-13;
  p = p * f - 0x1.5d87fe78d0cafp-10;
  p = p * f + 0x1.3b2ab6fb9ff77p-7;
  p = p * f - 0x1.c6b08d7049fd5p-5;
  p = p * f + 0x1.ebfbdff82c5a5p-3;
  p = p * f - 0x1.62e42fefa39efp-1;
  p = p * f + 1.0;
  return p * scale;
}

GRAM_FN float GramExp2NegFloat(float u)
{
  float    t = u < 125.0f ? u : 125.0f, m = 0x1.8p23f - t, f = t + (m - 0x1.8p23f), scale, p;
  uint32_t bits;

  memcpy(&bits, &m, sizeof bits);
  bits = (bits << 23) + 0x3f800000u;
  memcpy(&scale, &bits, sizeof scale);
  p = 0x1.41fdp-13f;
  p = p * f - 0x1.5f3e2ep-10f;
  p = p * f + 0x1.3b2d4ap-7f;
  p = p * f - 0x1.c6aee8p-5f;
  p = p * f + 0x1.ebfbdcp-3f;
  p = p * f - 0x1.62e430p-1f;
  p = p * f + 1.0f;
  return p * scale;
}

    #define GramExp2Neg(u) _Generic((u), float : GramExp2NegFloat, double : GramExp2NegDouble)(u)
  #endif

GRAM_FN gram_real RadialGaussian(gram_real s) { return GramExp2Neg(s); }
GRAM_FN gram_real RadialExponential(gram_real s) { return GramExp2Neg(sqrt(s)); }

GRAM_FN gram_real RadialMatern32(gram_real s)
{
  gram_real u = sqrt(s), t = GRAM_LN2 * u;
  return (1 + t) * GramExp2Neg(u);
}

GRAM_FN gram_real RadialMatern52(gram_real s)
{
  gram_real u = sqrt(s), t = GRAM_LN2 * u;
  return (1 + t * (1 + t * (gram_real)(1.0 / 3))) * GramExp2Neg(u);
}

GRAM_FN gram_real RadialMatern72(gram_real s)
{
  gram_real u = sqrt(s), t = GRAM_LN2 * u;
  return (1 + t * (1 + t * ((gram_real)(2.0 / 5) + t * (gram_real)(1.0 / 15)))) * GramExp2Neg(u);
}

GRAM_FN gram_real RadialMatern92(gram_real s)
{
  gram_real u = sqrt(s), t = GRAM_LN2 * u;
  return (1 +
          t * (1 + t * ((gram_real)(3.0 / 7) + t * ((gram_real)(2.0 / 21) + t * (gram_real)(1.0 / 105))))) *
         GramExp2Neg(u);
}

  /* Callers pass a literal type: the switch folds away and leaves no branch in the inner loop. */
  #define GRAM_RADIAL_CASE(UPPER, Camel, name, twonu, order, unit) \
  case GRAM_RADIAL_##UPPER: return Radial##Camel(s);
GRAM_FN gram_real RadialEval(GramRadial type, gram_real s)
{
  switch (type) {
    GRAM_RADIAL_LIST(GRAM_RADIAL_CASE)
  default: return 0;
  }
}
#endif
