/*
  Radial profiles phi, and the arithmetic they share.

  A profile is evaluated at s = (c r)^2, r the scaled distance |(x - z) / ell|. The unit c is chosen so that the
  exponential of the profile is a power of two without a further multiplication: coordinates are multiplied
  by c / ell once, and 2^-u costs a rounding, a polynomial and an integer shift.

      gaussian      exp(-r^2/2)            = 2^-s                  c = sqrt(log2(e) / 2)
      exponential   exp(-r)                = 2^-u                  c = log2(e),            u = sqrt(s)
      matern p+1/2  P_p(t) exp(-t)         = P_p(u ln 2) 2^-u      c = sqrt(2p+1) log2(e), t = sqrt(2 nu) r
      rational quadratic  (1 + r^2 / (2 beta))^-beta = 2^-(beta log2(1 + s)),  c = 1 / sqrt(2 beta)
      others        as in the list of README.md                   c = 1

  with P_p(t) = sum_k p! (p+k)! / ((2p)! k! (p-k)!) (2t)^(p-k), Rasmussen and Williams (2006), eq. 4.16.

  A file that evaluates profiles picks its precision first:  #define GRAM_REAL float // or double
  and may pick the bytes of a vector to evaluate several at once:  #define GRAM_VECTOR_BYTES 32

  To add a profile, write its function, its line in GRAM_RADIAL_LIST and its formula in backend_ref.c: the
  option -kernel_type, the tiles of every backend and the tests expand from that line.
*/
#pragma once

/*
  X(enum suffix, function suffix, option value, and what GramRadialInfo in kernel.h holds:

    beta             1: phi depends on kernel.beta, and its function takes it
    2 nu             of a matern kernel, 0 for the others
    powers, fma      phi needs so many 2^-u, and multiplications and multiply-adds beside
    order            0 is positive definite, m > 0 only against polynomials of degree m - 1, so that the solve carries
                     them as a tail
    unit             c; where phi depends on beta, c sqrt(beta)
    differentiable   twice at r = 0: values and gradients can stand in one system
    support          phi is 0 from this r on; 0: nowhere
    dims             positive definite for so many coordinates at most; 0: for any number)
*/
#define GRAM_RADIAL_LIST(X)                                                                                 \
  X(GAUSSIAN, Gaussian, "gaussian", 0, 0, 1, 0, 0, 0.84932180028801910, 1, 0, 0)                            \
  X(EXPONENTIAL, Exponential, "exponential", 0, 1, 1, 0, 0, 1.4426950408889634, 0, 0, 0)                    \
  X(MATERN32, Matern32, "matern32", 0, 3, 1, 2, 0, 2.4988211106473432, 1, 0, 0)                             \
  X(MATERN52, Matern52, "matern52", 0, 5, 1, 4, 0, 3.2259641822295610, 1, 0, 0)                             \
  X(MATERN72, Matern72, "matern72", 0, 7, 1, 5, 0, 3.8170122958983583, 1, 0, 0)                             \
  X(MATERN92, Matern92, "matern92", 0, 9, 1, 6, 0, 4.3280851226668902, 1, 0, 0)                             \
  X(INVERSE_MULTIQUADRIC, InverseMultiquadric, "inverse_multiquadric", 0, 0, 0, 0, 0, 1, 1, 0, 0)           \
  X(RATIONAL_QUADRATIC, RationalQuadratic, "rational_quadratic", 1, 0, 1, 14, 0, 0.70710678118654752, 1, 0, \
    0)                                                                                                      \
  X(WENDLAND2, Wendland2, "wendland2", 0, 0, 0, 4, 0, 1, 1, 1, 3)                                           \
  X(WENDLAND4, Wendland4, "wendland4", 0, 0, 0, 6, 0, 1, 1, 1, 3)                                           \
  X(MULTIQUADRIC, Multiquadric, "multiquadric", 0, 0, 0, 0, 1, 1, 1, 0, 0)                                  \
  X(CUBIC, Cubic, "cubic", 0, 0, 0, 1, 2, 1, 1, 0, 0)                                                       \
  X(THIN_PLATE, ThinPlate, "thin_plate", 0, 0, 0, 14, 2, 1, 0, 0, 0)

#define GRAM_RADIAL_ENUM(UPPER, ...) GRAM_RADIAL_##UPPER,
typedef enum { GRAM_RADIAL_LIST(GRAM_RADIAL_ENUM) GRAM_RADIAL_COUNT } GramRadial;

#if defined(GRAM_REAL)
/* What profiles compute with: a number, or GRAM_VECTOR_BYTES of them in a vector of gcc and clang, whose operators
   work lane by lane. The same functions serve the CPU tiles, the tests and CUDA. */
typedef GRAM_REAL gram_scalar;
  #if defined(GRAM_VECTOR_BYTES)
typedef gram_scalar gram_real __attribute__((vector_size(GRAM_VECTOR_BYTES)));
  #else
typedef gram_scalar gram_real;
  #endif

  #if defined( \
      GRAM_DEVICE) /* device functions of CUDA, which choose how they evaluate 2^-u: see radial_math.h */
    #define GRAM_FN   template <bool on_fma = false> static __device__ __forceinline__
    #define GRAM_PASS <on_fma>
  #else
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    #define GRAM_FN static inline __attribute__((always_inline))
    #define GRAM_PASS
  #endif

  #define GRAM_C(x) ((gram_scalar)(x)) /* a constant in the precision at hand */

  #include "radial_math.h" /* GramSqrt(), GramMax(), GramExp2Neg(), GramLog2() */

/*
  phi and its derivatives in space. With d = x - z in coordinates times c / ell, s = d'd:

      phi,    d phi / d x_c = first d_c,    d2 phi / d x_c d z_e = -(first [c = e] + second d_c d_e)

  that is first = 2 phi'(s) and second = 4 phi''(s). Callers that read phi alone pay for phi alone.
*/
typedef struct {
  gram_real phi, first, second;
} GramJet;

  #define GRAM_LN2   0.69314718055994531
  #define GRAM_LN2_2 0.48045301391820142 /* ln^2 2 */
  #define GRAM_LN2_4 0.23083509858308343 /* ln^4 2 */

GRAM_FN GramJet RadialGaussian(gram_real s)
{
  const gram_real e = GramExp2Neg(GramNear(s));

  return (GramJet){e, e * GRAM_C(-2 * GRAM_LN2), e * GRAM_C(4 * GRAM_LN2_2)};
}

/*
  Matern. With M_p = P_p(t) exp(-t): (1/t) d/dt M_p = -M_(p-1) / (2p - 1), so that with t = u ln 2, u^2 = s

      first = -ln^2 2 M_(p-1) / (2p - 1),   second = ln^4 2 M_(p-2) / ((2p - 1)(2p - 3)),   M_(-1) = exp(-t) / t

  p = 0 has a cone at r = 0 and p = 1 a kink in its second derivatives: t is kept from 0, where d_c = 0 wipes out
  what is left.
*/
GRAM_FN gram_real Matern1(gram_real t) { return 1 + t; }
GRAM_FN gram_real Matern2(gram_real t) { return 1 + t * (1 + t * GRAM_C(1.0 / 3)); }
GRAM_FN gram_real Matern3(gram_real t) { return 1 + t * (1 + t * (GRAM_C(2.0 / 5) + t * GRAM_C(1.0 / 15))); }

GRAM_FN gram_real Matern4(gram_real t)
{
  return 1 + t * (1 + t * (GRAM_C(3.0 / 7) + t * (GRAM_C(2.0 / 21) + t * GRAM_C(1.0 / 105))));
}

GRAM_FN GramJet RadialExponential(gram_real s)
{
  const gram_real u = GramNear(GramSqrt(s)), e = GramExp2Neg(u), t = GramMax(u * GRAM_C(GRAM_LN2), GRAM_TINY),
                  f = e / t;

  return (GramJet){e, f * GRAM_C(-GRAM_LN2_2), f * (1 + t) / (t * t) * GRAM_C(GRAM_LN2_4)};
}

GRAM_FN GramJet RadialMatern32(gram_real s)
{
  const gram_real u = GramNear(GramSqrt(s)), e = GramExp2Neg(u), t = u * GRAM_C(GRAM_LN2);

  return (GramJet){e * Matern1(t), e * GRAM_C(-GRAM_LN2_2), e / GramMax(t, GRAM_TINY) * GRAM_C(GRAM_LN2_4)};
}

GRAM_FN GramJet RadialMatern52(gram_real s)
{
  const gram_real u = GramNear(GramSqrt(s)), e = GramExp2Neg(u), t = u * GRAM_C(GRAM_LN2);

  return (GramJet){e * Matern2(t), e * Matern1(t) * GRAM_C(-GRAM_LN2_2 / 3), e * GRAM_C(GRAM_LN2_4 / 3)};
}

GRAM_FN GramJet RadialMatern72(gram_real s)
{
  const gram_real u = GramNear(GramSqrt(s)), e = GramExp2Neg(u), t = u * GRAM_C(GRAM_LN2);

  return (GramJet){e * Matern3(t), e * Matern2(t) * GRAM_C(-GRAM_LN2_2 / 5),
                   e * Matern1(t) * GRAM_C(GRAM_LN2_4 / 15)};
}

GRAM_FN GramJet RadialMatern92(gram_real s)
{
  const gram_real u = GramNear(GramSqrt(s)), e = GramExp2Neg(u), t = u * GRAM_C(GRAM_LN2);

  return (GramJet){e * Matern4(t), e * Matern3(t) * GRAM_C(-GRAM_LN2_2 / 7),
                   e * Matern2(t) * GRAM_C(GRAM_LN2_4 / 35)};
}

/* Multiquadrics: q = (1 + r^2)^(-1/2), first and second are -q^3, 3 q^5 and, of -1/q, -q, q^3 */
GRAM_FN GramJet RadialInverseMultiquadric(gram_real s)
{
  const gram_real q = 1 / GramSqrt(1 + s), q2 = q * q;

  return (GramJet){q, -q * q2, 3 * q * q2 * q2};
}

GRAM_FN GramJet RadialMultiquadric(gram_real s)
{
  const gram_real r = GramSqrt(1 + s), q = 1 / r;

  return (GramJet){-r, -q, q * q * q};
}

/* (1 + s)^-beta, s = r^2 / (2 beta): first = -2 beta (1 + s)^(-beta - 1), second = 4 beta (beta + 1) (1 + s)^(-beta - 2) */
GRAM_FN GramJet RadialRationalQuadratic(gram_real s, gram_scalar beta)
{
  const gram_real e = GramExp2Neg(GramNear(beta * GramLog2Plus1(s))), q = 1 / (1 + s);

  return (GramJet){e, -2 * beta * e * q, 4 * beta * (beta + 1) * e * q * q};
}

/* r^2 log r = s log(s) / 2: first = log s + 1, second = 2 / s; at r = 0 numbers whose products with d_c are 0 */
GRAM_FN GramJet RadialThinPlate(gram_real s)
{
  const gram_real l = GramLog2(s);

  return (GramJet){s * l * GRAM_C(GRAM_LN2 / 2), 1 + l * GRAM_C(GRAM_LN2),
                   2 / GramMax(s, GRAM_TINY * GRAM_TINY)};
}

/* r^3: first = 3 r, second = 3 / r, which d_c d_e wipes out at r = 0 */
GRAM_FN GramJet RadialCubic(gram_real s)
{
  const gram_real r = GramSqrt(s);

  return (GramJet){s * r, 3 * r, 3 / GramMax(r, GRAM_TINY)};
}

/* Wendland (1995), with t = max(1 - r, 0). C2: t^4 (4r + 1), first = -20 t^3, second = 60 t^2 / r, which d_c d_e wipes
   out at r = 0. C4: t^6 (35 r^2 + 18 r + 3) / 3, first = -56/3 t^5 (5r + 1), second = 560 t^4. */
GRAM_FN GramJet RadialWendland2(gram_real s)
{
  const gram_real r = GramSqrt(s), t = GramMax(1 - r, 0), t2 = t * t;

  return (GramJet){t2 * t2 * (1 + 4 * r), -20 * t * t2, 60 * t2 / GramMax(r, GRAM_TINY)};
}

GRAM_FN GramJet RadialWendland4(gram_real s)
{
  const gram_real r = GramSqrt(s), t = GramMax(1 - r, 0), t2 = t * t, t4 = t2 * t2;

  return (GramJet){t2 * t4 * (1 + r * (6 + r * GRAM_C(35.0 / 3))), t * t4 * (1 + 5 * r) * GRAM_C(-56.0 / 3),
                   560 * t4};
}

  /* Callers pass a literal type: the switch folds away and leaves no branch in the inner loop. */
  #define GRAM_ARGUMENTS_0 (s)
  #define GRAM_ARGUMENTS_1 (s, beta)
  #define GRAM_RADIAL_CASE(UPPER, Camel, name, takes_beta, ...) \
  case GRAM_RADIAL_##UPPER: return Radial##Camel GRAM_PASS GRAM_ARGUMENTS_##takes_beta;
GRAM_FN GramJet RadialJet(GramRadial type, gram_real s, gram_scalar beta)
{
  switch (type) {
    GRAM_RADIAL_LIST(GRAM_RADIAL_CASE)
  default: return (GramJet){s, s, s};
  }
}

GRAM_FN gram_real RadialEval(GramRadial type, gram_real s, gram_scalar beta)
{
  return RadialJet GRAM_PASS(type, s, beta).phi;
}
#endif
