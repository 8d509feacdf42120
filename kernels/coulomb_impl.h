/*
  Coulomb forces on the CPU. Included by coulomb_f64.c and coulomb_f32.c, each built once per instruction set with

      -DGRAM_TILE_SUFFIX=f64_avx512

  Rows sit in vector lanes and charges are broadcast one after the other, as in tile_impl.h. No exponential is needed: odd
  powers of the distance take a root, even ones a division. The logarithms of the plane are taken of products of COULOMB_LOGS
  squared distances, which stay within range for lengths near 1.
*/
#include <stdbool.h>

#include "vector.h"

#include "coulomb_tile.h"

#define COULOMB_VECS 2   /* vectors of rows in flight */
#define COULOMB_COLS 256 /* charges that are summed in the precision of the pairs */
#define COULOMB_LOGS (GRAM_IS_DOUBLE ? 16 : 4)
#define COULOMB_ANY  0 /* for few: any number of coordinates, a loop over dim */

#define COULOMB_INLINE static inline __attribute__((always_inline))
#define COULOMB_UNROLL _Pragma("GCC unroll 8")

/* a where s > 0, b where s = 0; the lesser of a and b. Without compares of vectors where they are no better: gcc 12 ends
   in an internal error over these in 16 bytes. */
#if defined(__AVX2__)
COULOMB_INLINE gram_real CoulombWhere(gram_real s, gram_real a, gram_real b)
{
  const gram_real zero = {0};

  return (gram_real)(((zero < s) & (__typeof__(zero < s))a) | (~(zero < s) & (__typeof__(zero < s))b));
}

COULOMB_INLINE gram_real CoulombLess(gram_real a, gram_real b)
{
  return (gram_real)(((a < b) & (__typeof__(a < b))a) | (~(a < b) & (__typeof__(a < b))b));
}
#else
  #define COULOMB_SIGN (GRAM_IS_DOUBLE ? 63 : 31)
COULOMB_INLINE gram_real CoulombChoose(gram_bits mask, gram_real a, gram_real b)
{
  return (gram_real)((mask & (gram_bits)a) | (~mask & (gram_bits)b));
}

COULOMB_INLINE gram_real CoulombWhere(gram_real s, gram_real a, gram_real b)
{
  return CoulombChoose(0 - (((gram_bits)s | (0 - (gram_bits)s)) >> COULOMB_SIGN), a, b);
}

COULOMB_INLINE gram_real CoulombLess(gram_real a, gram_real b)
{
  return CoulombChoose(0 - ((gram_bits)(a - b) >> COULOMB_SIGN), a, b);
}
#endif

/* 1 / s and 1 / sqrt(s): with AVX-512 14 bits and steps of Newton, else as the compiler does it */
#if defined(GRAM_INTRINSICS) && defined(__AVX512F__)
COULOMB_INLINE gram_real CoulombInverse(gram_real s)
{
  gram_real y =
      GRAM_IS_DOUBLE ? (gram_real)_mm512_rcp14_pd((__m512d)s) : (gram_real)_mm512_rcp14_ps((__m512)s);

  y += y * (1 - s * y);
  return GRAM_IS_DOUBLE ? y + y * (1 - s * y) : y;
}

COULOMB_INLINE gram_real CoulombInverseRoot(gram_real s)
{
  const gram_real half = s * GRAM_C(0.5);
  gram_real       y =
      GRAM_IS_DOUBLE ? (gram_real)_mm512_rsqrt14_pd((__m512d)s) : (gram_real)_mm512_rsqrt14_ps((__m512)s);

  y += y * (GRAM_C(0.5) - half * y * y);
  return GRAM_IS_DOUBLE ? y + y * (GRAM_C(0.5) - half * y * y) : y;
}
#else
COULOMB_INLINE gram_real CoulombInverse(gram_real s) { return 1 / s; }
COULOMB_INLINE gram_real CoulombInverseRoot(gram_real s) { return 1 / GramSqrt(s); }
#endif

/* force = s^(-d/2), energy = s^((2 - d)/2) / (d - 2) for d > 2, inverse = 1 / s */
COULOMB_INLINE void CoulombPowers(int dim, gram_real s, gram_real *force, gram_real *energy,
                                  gram_real *inverse)
{
  const gram_real root = dim % 2 ? CoulombInverseRoot(s) : CoulombInverse(s),
                  q    = dim % 2 ? root * root : root;
  gram_real power      = dim % 2 ? root : 1 - (gram_real){0}; /* s^((2 - d)/2) */

  COULOMB_UNROLL
  for (int k = dim % 2 ? 3 : 2; k < dim; k += 2) power *= q;
  *inverse = q;
  *force   = power * q;
  if (dim > 2) *energy = power * GRAM_C(1. / (dim - 2));
}

typedef struct {
  gram_real force[GRAM_TILE_DIM][COULOMB_VECS], energy[COULOMB_VECS], third[COULOMB_VECS];
} CoulombSums;

/* few: 2 ... 6 coordinates as a literal, whose sums stay in registers, or COULOMB_ANY */
COULOMB_INLINE void CoulombPass_Inline(int few, bool cloud, int any, long cols, const gram_scalar *restrict x,
                                       long ldx, const gram_scalar *restrict z, long ldz,
                                       const gram_scalar *restrict charge, gram_scalar softening2,
                                       CoulombSums *restrict sums)
{
  const int       dim  = few == COULOMB_ANY ? any : few;
  const gram_real zero = {0}, far = (GRAM_IS_DOUBLE ? GRAM_C(1e300) : GRAM_C(1e37)) - zero;
  gram_real       held[6][COULOMB_VECS], energies[COULOMB_VECS], thirds[COULOMB_VECS];

#define COULOMB_FORCE(c, a) (*(few == COULOMB_ANY ? &sums->force[c][a] : &held[c][a]))
  for (long c = 0; c < dim; c++) {
    COULOMB_UNROLL
    for (long a = 0; a < COULOMB_VECS; a++) COULOMB_FORCE(c, a) = zero;
  }
  COULOMB_UNROLL
  for (long a = 0; a < COULOMB_VECS; a++) {
    energies[a] = zero;
    thirds[a]   = cloud ? zero : far;
  }
  for (long j0 = 0; j0 < cols; j0 += COULOMB_LOGS) {
    const long end = j0 + COULOMB_LOGS < cols ? j0 + COULOMB_LOGS : cols;
    gram_real  products[COULOMB_VECS];

    COULOMB_UNROLL
    for (long a = 0; a < COULOMB_VECS; a++) products[a] = 1 - zero;
    for (long j = j0; j < end; j++) {
      COULOMB_UNROLL
      for (long a = 0; a < COULOMB_VECS; a++) {
        gram_real s = softening2 - zero, force, energy = zero, inverse;

        COULOMB_UNROLL
        for (long c = 0; c < dim; c++) {
          const gram_real d = GramLoad(x + c * ldx + a * GRAM_LANES) - z[c * ldz + j];

          s += d * d;
        }
        CoulombPowers(dim, s, &force, &energy, &inverse);
        if (cloud) {
          force *= charge[j];
          thirds[a] += force * inverse;
          energies[a] += charge[j] * (dim == 2 ? GramLog2(s) * GRAM_C(-0.5 * GRAM_LN2) : energy);
        } else {
          force     = CoulombWhere(s, force, zero);
          thirds[a] = CoulombLess(CoulombWhere(s, s, far), thirds[a]);
          if (dim == 2) products[a] *= CoulombWhere(s, s, 1 - zero);
          else energies[a] += CoulombWhere(s, energy, zero);
        }
        COULOMB_UNROLL
        for (long c = 0; c < dim; c++)
          COULOMB_FORCE(c, a) += force * (GramLoad(x + c * ldx + a * GRAM_LANES) - z[c * ldz + j]);
      }
    }
    COULOMB_UNROLL
    for (long a = 0; a < COULOMB_VECS; a++)
      if (dim == 2 && !cloud) energies[a] += GramLog2(products[a]) * GRAM_C(-0.5 * GRAM_LN2);
  }
  COULOMB_UNROLL
  for (long a = 0; a < COULOMB_VECS; a++) {
    for (long c = 0; c < dim; c++) sums->force[c][a] = COULOMB_FORCE(c, a);
    sums->energy[a] = energies[a];
    sums->third[a]  = thirds[a];
  }
#undef COULOMB_FORCE
}

#define COULOMB_PASS(few, cloud)                                                          \
  static __attribute__((noinline)) void CoulombPass_##few##_##cloud(                      \
      int dim, long cols, const gram_scalar *x, long ldx, const gram_scalar *z, long ldz, \
      const gram_scalar *charge, gram_scalar softening2, CoulombSums *sums)               \
  {                                                                                       \
    CoulombPass_Inline(few, cloud, dim, cols, x, ldx, z, ldz, charge, softening2, sums);  \
  }
COULOMB_PASS(2, 0)
COULOMB_PASS(2, 1)
COULOMB_PASS(3, 0)
COULOMB_PASS(3, 1)
COULOMB_PASS(4, 0)
COULOMB_PASS(4, 1)
COULOMB_PASS(5, 0)
COULOMB_PASS(5, 1)
COULOMB_PASS(6, 0)
COULOMB_PASS(6, 1)
COULOMB_PASS(0, 0)
COULOMB_PASS(0, 1)

#define COULOMB_NAME_AS(name, suffix) name##_##suffix
#define COULOMB_NAME_OF(name, suffix) COULOMB_NAME_AS(name, suffix)

void COULOMB_NAME_OF(GramCoulombTile, GRAM_TILE_SUFFIX)(int dim, long m, long n, const void *x_any, long ldx,
                                                        const void *z_any, long ldz, const void *charge_any,
                                                        double softening2, double *out)
{
  static void (*const passes[2][6 + 1])(int, long, const gram_scalar *, long, const gram_scalar *, long,
                                        const gram_scalar *, gram_scalar, CoulombSums *) = {
      {CoulombPass_0_0, CoulombPass_0_0, CoulombPass_2_0, CoulombPass_3_0, CoulombPass_4_0, CoulombPass_5_0,
       CoulombPass_6_0},
      {CoulombPass_0_1, CoulombPass_0_1, CoulombPass_2_1, CoulombPass_3_1, CoulombPass_4_1, CoulombPass_5_1,
       CoulombPass_6_1}};
  const gram_scalar *x = (const gram_scalar *)x_any, *z = (const gram_scalar *)z_any,
                    *charge = (const gram_scalar *)charge_any;
  CoulombSums sums;

  for (long j = 0; j < n; j += COULOMB_COLS) {
    const long cols = n - j < COULOMB_COLS ? n - j : COULOMB_COLS;

    for (long i = 0; i < m; i += COULOMB_VECS * GRAM_LANES) {
      passes[charge != NULL][dim > 6 ? 0 : dim](dim, cols, x + i, ldx, z + j, ldz, charge ? charge + j : NULL,
                                                (gram_scalar)softening2, &sums);
      for (long a = 0; a < COULOMB_VECS; a++) {
        for (long l = 0; l < GRAM_LANES && i + a * GRAM_LANES + l < m; l++) {
          double *o = out + (i + a * GRAM_LANES + l) * (dim + 2);

          for (long c = 0; c < dim; c++) o[c] += sums.force[c][a][l];
          o[dim] += sums.energy[a][l];
          if (charge) o[dim + 1] += sums.third[a][l];
          else if (sums.third[a][l] < o[dim + 1]) o[dim + 1] = sums.third[a][l];
        }
      }
    }
  }
}
