#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "extended.h"
#include "tile.h"

/* Bits are to depend on the source alone: this file is compiled without contraction of a * b + c. */

/* What kernels and errors are evaluated in. EPSILON: half a unit in the last place. */
#if defined(GRAM_HAVE_QUAD)
  #include <quadmath.h>
typedef __float128 Wide;
  #define WIDE(name) name##q
  #define EPSILON    0x1p-113
#else
typedef PetscReal Wide;
  #define WIDE(name) name
  #define EPSILON    0x1p-53
#endif

#define ALWAYS static inline __attribute__((always_inline))

PetscReal GramExtendedEpsilon(void) { return EPSILON; }

/* ---- pairs: hi + lo, |lo| half a unit in the last place of hi at most */

typedef struct {
  double hi, lo;
} Pair;

/* a b - p for p = a b rounded */
ALWAYS double ProductError(const int fma_in_hardware, double a, double b, double p)
{
  const double split = 134217729;
  double       t, ah, al, bh, bl;

  if (fma_in_hardware) return __builtin_fma(a, b, -p);
  t  = split * a;
  ah = t - (t - a);
  al = a - ah;
  t  = split * b;
  bh = t - (t - b);
  bl = b - bh;
  return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
}

/* y -= a x */
ALWAYS void Subtract(const int fma_in_hardware, Pair a, double xh, double xl, double *yh, double *yl)
{
  const double p = a.hi * xh, e = ProductError(fma_in_hardware, a.hi, xh, p) + (a.hi * xl + a.lo * xh),
               s = *yh - p, b = s - *yh, t = ((*yh - (s - b)) - (p + b)) + (*yl - e);

  *yh = s + t;
  *yl = t - (*yh - s);
}

/* y [n] -= a x [n]: where nearly all of the time goes, once for each set of instructions */
typedef void Update(PetscInt n, Pair a, const double *restrict xh, const double *restrict xl,
                    double *restrict yh, double *restrict yl);

#define UPDATE(name, attributes, fma_in_hardware)                                                       \
  attributes static void name(PetscInt n, Pair a, const double *restrict xh, const double *restrict xl, \
                              double *restrict yh, double *restrict yl)                                 \
  {                                                                                                     \
    for (PetscInt i = 0; i < n; i++) Subtract(fma_in_hardware, a, xh[i], xl[i], yh + i, yl + i);        \
  }
#if defined(__FP_FAST_FMA)
UPDATE(UpdatePlain, , 1)
#else
UPDATE(UpdatePlain, , 0) /* fma() would be a call */
#endif
#if defined(__x86_64__)
UPDATE(UpdateAVX2, __attribute__((target("avx2,fma"))), 1)
UPDATE(UpdateAVX512, __attribute__((target("avx512f,fma"))), 1)
#endif

/* the best that this processor has, or the one named GRAM_SIMD in the environment, as for tiles */
static Update *UpdateChoose(void)
{
#if defined(__x86_64__)
  const char *wanted   = getenv("GRAM_SIMD");
  const int   portable = wanted && !strcmp(wanted, "portable"), avx2 = wanted && !strcmp(wanted, "avx2");

  if (GRAM_HAVE_AVX512 && !portable && !avx2) return UpdateAVX512;
  if (GRAM_HAVE_AVX2 && !portable) return UpdateAVX2;
#endif
  return UpdatePlain;
}

/* y - a x; with a = -1 a sum */
ALWAYS Pair PairMinus(Pair y, Pair a, Pair x)
{
  Subtract(0, a, x.hi, x.lo, &y.hi, &y.lo);
  return y;
}

static Pair PairProduct(Pair a, Pair x) { return PairMinus((Pair){0, 0}, (Pair){-a.hi, -a.lo}, x); }

/* x / y: two steps of long division, and what is left of the remainder */
static Pair PairQuotient(Pair x, Pair y)
{
  Pair q = {x.hi / y.hi, 0}, r = PairMinus(x, q, y);

  q.lo = r.hi / y.hi;
  r    = PairMinus(r, (Pair){q.lo, 0}, y);
  return PairMinus(q, (Pair){-1, 0}, (Pair){r.hi / y.hi, 0});
}

static Pair PairRoot(Pair x)
{
  Pair root = {sqrt(x.hi), 0}, r = PairMinus(x, root, root);

  return PairMinus(root, (Pair){-1, 0}, (Pair){r.hi / (2 * root.hi), 0});
}

static Pair PairOf(Wide x)
{
  const double hi = (double)x;

  return (Pair){hi, (double)(x - hi)};
}

/* ---- the kernel matrix */

/* the textbook formulas */
static Wide Profile(const GramKernel *k, Wide r2)
{
  const Wide r = WIDE(sqrt)(r2), t = WIDE(sqrt)(GramRadialGetInfo(k->radial)->twonu * r2), u = 1 - r;

  switch (k->radial) {
  case GRAM_RADIAL_GAUSSIAN: return WIDE(exp)(-r2 / 2);
  case GRAM_RADIAL_EXPONENTIAL: return WIDE(exp)(-r);
  case GRAM_RADIAL_MATERN32: return (1 + t) * WIDE(exp)(-t);
  case GRAM_RADIAL_MATERN52: return (1 + t + t * t / 3) * WIDE(exp)(-t);
  case GRAM_RADIAL_MATERN72: return (1 + t + 2 * t * t / 5 + t * t * t / 15) * WIDE(exp)(-t);
  case GRAM_RADIAL_MATERN92:
    return (1 + t + 3 * t * t / 7 + 2 * t * t * t / 21 + t * t * t * t / 105) * WIDE(exp)(-t);
  case GRAM_RADIAL_INVERSE_MULTIQUADRIC: return 1 / WIDE(sqrt)(1 + r2);
  case GRAM_RADIAL_RATIONAL_QUADRATIC: return WIDE(exp)(-k->beta * WIDE(log1p)(r2 / (2 * (Wide)k->beta)));
  case GRAM_RADIAL_WENDLAND2: return u > 0 ? u * u * u * u * (4 * r + 1) : 0;
  case GRAM_RADIAL_WENDLAND4: return u > 0 ? u * u * u * u * u * u * (35 * r2 + 18 * r + 3) / 3 : 0;
  default: return NAN; /* of order > 0: there is no mean of it */
  }
}

/* K [n][n], both triangles; coincide: two rows at the same place, the lower first, or -1, -1 */
static void Fill(const GramKernel *k, PetscInt n, const PetscReal x[], Wide K[], PetscInt coincide[2])
{
  const Wide square = (Wide)k->amplitude * k->amplitude;
  Wide       inverse[GRAM_MAX_DIM];

  coincide[0] = coincide[1] = -1;
  for (PetscInt c = 0; c < k->dim; c++) inverse[c] = 1 / (Wide)k->length_scale[c];
  for (PetscInt j = 0; j < n; j++) {
    K[GramAt(j, n, j)] = square;
    for (PetscInt i = 0; i < j; i++) {
      Wide r2 = 0;

      for (PetscInt c = 0; c < k->dim; c++) {
        const Wide d = ((Wide)x[GramAt(i, k->dim, c)] - x[GramAt(j, k->dim, c)]) * inverse[c];

        r2 += d * d;
      }
      if (!(r2 > 0) && coincide[0] < 0) {
        coincide[0] = i;
        coincide[1] = j;
      }
      K[GramAt(i, n, j)] = K[GramAt(j, n, i)] = square * Profile(k, r2);
    }
  }
}

/* ---- (K + alpha I) u = b in pairs */

/* L [n][n] by columns */
typedef struct {
  PetscInt n;
  double  *hi, *lo;
} Matrix;

ALWAYS Pair MatrixGet(const Matrix *a, PetscInt row, PetscInt column)
{
  const size_t at = GramAt(column, a->n, row);

  return (Pair){a->hi[at], a->lo[at]};
}

ALWAYS void MatrixSet(Matrix *a, PetscInt row, PetscInt column, Pair value)
{
  const size_t at = GramAt(column, a->n, row);

  a->hi[at] = value.hi;
  a->lo[at] = value.lo;
}

#define PANEL 16  /* columns that share what they read of those before */
#define ROWS  256 /* of a column that stay in the first cache */

/* columns first ... end less those before them */
static void PanelUpdate(Update *update, Matrix *a, PetscInt first, PetscInt end)
{
  for (PetscInt top = first; top < a->n; top += ROWS) {
    const PetscInt bottom = PetscMin(top + ROWS, a->n);

    for (PetscInt k = 0; k < first; k++) {
      for (PetscInt j = first; j < PetscMin(end, bottom); j++) {
        const PetscInt i    = PetscMax(top, j);
        const size_t   from = GramAt(k, a->n, i), to = GramAt(j, a->n, i);

        update(bottom - i, MatrixGet(a, j, k), a->hi + from, a->lo + from, a->hi + to, a->lo + to);
      }
    }
  }
}

/* the lower triangle of K + alpha I becomes L; singular: the first row whose pivot is not positive, or -1 */
static void Factor(Matrix *a, PetscInt *singular)
{
  const PetscInt n      = a->n;
  Update        *update = UpdateChoose();

  *singular = -1;
  for (PetscInt first = 0; first < n; first += PANEL) {
    const PetscInt end = PetscMin(first + PANEL, n);

    PanelUpdate(update, a, first, end);
    for (PetscInt j = first; j < end; j++) {
      const size_t to = GramAt(j, n, j);
      Pair         root, inverse;

      for (PetscInt k = first; k < j; k++) {
        const size_t from = GramAt(k, n, j);

        update(n - j, MatrixGet(a, j, k), a->hi + from, a->lo + from, a->hi + to, a->lo + to);
      }
      if (!(a->hi[to] > 0)) {
        *singular = j;
        return;
      }
      root    = PairRoot(MatrixGet(a, j, j));
      inverse = PairQuotient((Pair){1, 0}, root);
      MatrixSet(a, j, j, root);
      for (PetscInt i = j + 1; i < n; i++) MatrixSet(a, i, j, PairProduct(inverse, MatrixGet(a, i, j)));
    }
  }
}

/* b [n] = (L L')^-1 b */
static void Solve(const Matrix *a, Wide b[], Pair x[])
{
  const PetscInt n = a->n;

  for (PetscInt j = 0; j < n; j++) x[j] = PairOf(b[j]);
  for (PetscInt j = 0; j < n; j++) {
    x[j] = PairQuotient(x[j], MatrixGet(a, j, j));
    for (PetscInt i = j + 1; i < n; i++) x[i] = PairMinus(x[i], x[j], MatrixGet(a, i, j));
  }
  for (PetscInt j = n - 1; j >= 0; j--) {
    for (PetscInt i = j + 1; i < n; i++) x[j] = PairMinus(x[j], x[i], MatrixGet(a, i, j));
    x[j] = PairQuotient(x[j], MatrixGet(a, j, j));
  }
  for (PetscInt j = 0; j < n; j++) b[j] = (Wide)x[j].hi + x[j].lo;
}

/* B [columns][n] = (K + alpha I)^-1 B, unless singular */
static PetscErrorCode SolvePairs(PetscInt n, const Wide K[], PetscReal alpha, PetscInt columns, Wide B[],
                                 PetscInt *singular)
{
  Matrix L = {.n = n};
  Pair  *x;

  PetscFunctionBegin;
  PetscCall(PetscMalloc3(GramAt(n, n, 0), &L.hi, GramAt(n, n, 0), &L.lo, n, &x));
  for (PetscInt j = 0; j < n; j++) {
    for (PetscInt i = j; i < n; i++) MatrixSet(&L, i, j, PairOf(K[GramAt(j, n, i)] + (i == j ? alpha : 0)));
  }
  Factor(&L, singular);
  for (PetscInt c = 0; c < columns && *singular < 0; c++) Solve(&L, B + GramAt(c, n, 0), x);
  PetscCall(PetscFree3(L.hi, L.lo, x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- and in the numbers of K, for the last few pivots that pairs cannot tell from 0 */

/* The same, over the lower triangle of K: symmetric on entry, and above the diagonal on return. */
static void SolveWide(PetscInt n, Wide K[], PetscReal alpha, PetscInt columns, Wide B[], PetscInt *singular)
{
  *singular = -1;
  for (PetscInt j = 0; j < n; j++) {
    Wide *to = K + GramAt(j, n, 0), inverse;

    to[j] += alpha;
    for (PetscInt k = 0; k < j; k++) {
      const Wide *from = K + GramAt(k, n, 0), factor = from[j];

      for (PetscInt i = j; i < n; i++) to[i] -= factor * from[i];
    }
    if (!(to[j] > 0)) {
      *singular = j;
      return;
    }
    inverse = 1 / WIDE(sqrt)(to[j]);
    for (PetscInt i = j; i < n; i++) to[i] *= inverse;
  }
  for (PetscInt c = 0; c < columns; c++) {
    Wide *b = B + GramAt(c, n, 0);

    for (PetscInt j = 0; j < n; j++) {
      b[j] /= K[GramAt(j, n, j)];
      for (PetscInt i = j + 1; i < n; i++) b[i] -= b[j] * K[GramAt(j, n, i)];
    }
    for (PetscInt j = n - 1; j >= 0; j--) {
      for (PetscInt i = j + 1; i < n; i++) b[j] -= b[i] * K[GramAt(j, n, i)];
      b[j] /= K[GramAt(j, n, j)];
    }
  }
}

/* ---- the worst-case error */

/* z and I with their rounding errors */
typedef struct {
  Wide      *z, twice;
  PetscReal *error, twice_error;
} Means;

static PetscErrorCode MeansCreate(GramMean mean, PetscInt n, const PetscReal x[], const PetscReal z[],
                                  Means *means)
{
  PetscReal *hi, *lo, twice, twice_lo;

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(n, &means->z, n, &means->error));
  PetscCall(PetscCalloc2(n, &hi, n, &lo));
  if (z) PetscCall(PetscArraycpy(hi, z, n));
  else PetscCall(GramMeanAtPairs(mean, n, x, hi, lo));
  for (PetscInt i = 0; i < n; i++) means->z[i] = (Wide)hi[i] + lo[i];
  PetscCall(GramMeanGetDoublePair(mean, &twice, &twice_lo));
  means->twice = (Wide)twice + twice_lo;
  PetscCall(GramMeanGetErrors(mean, (PetscBool)!z, n, x, hi, means->error, NULL));
  PetscCall(GramMeanGetErrors(mean, PETSC_TRUE, 0, NULL, NULL, NULL, &means->twice_error));
  PetscCall(PetscFree2(hi, lo));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode MeansDestroy(Means *means)
{
  PetscFunctionBegin;
  PetscCall(PetscFree2(means->z, means->error));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* of weights w [n], NULL: 1 / n; K above the diagonal, amplitude^2 on it. error grows to the bound, if that is larger */
static PetscReal WorstCase(const GramKernel *k, const Wide K[], PetscInt n, const Means *means,
                           const PetscReal w[], PetscReal *error)
{
  const Wide square = (Wide)k->amplitude * k->amplitude, equal = 1 / (Wide)n;
  Wide       sum  = means->twice;
  PetscReal  size = PetscAbsReal((PetscReal)sum), inexact = means->twice_error;

  for (PetscInt j = 0; j < n; j++) {
    const Wide      wj          = w ? (Wide)w[j] : equal;
    const PetscReal abs         = PetscAbsReal((PetscReal)wj);
    Wide            column      = 0;
    PetscReal       column_size = PetscAbsReal((PetscReal)means->z[j]) + abs * (PetscReal)square / 2;

    for (PetscInt i = 0; i < j; i++) {
      const Wide term = (w ? (Wide)w[i] : equal) * K[GramAt(j, n, i)];

      column += term;
      column_size += PetscAbsReal((PetscReal)term);
    }
    sum += wj * (2 * (column - means->z[j]) + wj * square);
    size += 2 * abs * column_size;
    inexact += 2 * abs * means->error[j];
  }
  *error = PetscMax(*error, (PetscReal)(n + 100) * EPSILON * size + inexact);
  return (PetscReal)sum;
}

static void WorstCases(const GramKernel *k, const Wide K[], PetscInt n, const Means *means,
                       const PetscReal w[], GramExtended *result)
{
  result->wce_squared_error = 0;
  result->wce_squared       = WorstCase(k, K, n, means, w, &result->wce_squared_error);
  result->wce_squared_equal = WorstCase(k, K, n, means, NULL, &result->wce_squared_error);
}

/* w = B[0], moved along B[1] so that it sums to 1 if there are two columns; rounded */
static void Weights(PetscInt n, PetscInt columns, const Wide B[], PetscReal w[])
{
  const Wide *u       = B + GramAt(columns - 1, n, 0);
  Wide        missing = 1, sum = 0;

  for (PetscInt i = 0; i < n; i++) {
    missing -= B[i];
    sum += u[i];
  }
  for (PetscInt i = 0; i < n; i++) w[i] = (PetscReal)(columns > 1 ? B[i] + missing / sum * u[i] : B[i]);
}

PetscErrorCode GramExtendedWeights(const GramKernel *kernel, GramMean mean, PetscInt n, const PetscReal x[],
                                   const PetscReal z[], PetscBool sum_to_one, PetscReal w[],
                                   GramExtended *result)
{
  const PetscInt columns = sum_to_one ? 2 : 1;
  PetscInt       coincide[2];
  Wide          *K, *B;
  Means          means;

  PetscFunctionBegin;
  *result = (GramExtended){.singular = -1, .twin = -1};
  PetscCall(PetscMalloc2(GramAt(n, n, 0), &K, GramAt(columns, n, 0), &B));
  Fill(kernel, n, x, K, coincide);
  PetscCall(MeansCreate(mean, n, x, z, &means));
  for (PetscInt i = 0; i < n; i++) {
    B[GramAt(columns - 1, n, i)] = 1;
    B[i]                         = means.z[i];
  }
  if (kernel->alpha == 0 && coincide[0] >= 0) {
    result->singular = coincide[1];
    result->twin     = coincide[0];
  } else {
    PetscCall(SolvePairs(n, K, kernel->alpha, columns, B, &result->singular));
    if (result->singular >= 0 && EPSILON < 0x1p-106)
      SolveWide(n, K, kernel->alpha, columns, B, &result->singular);
  }
  if (result->singular < 0) {
    Weights(n, columns, B, w);
    WorstCases(kernel, K, n, &means, w, result);
  }
  PetscCall(MeansDestroy(&means));
  PetscCall(PetscFree2(K, B));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramExtendedError(const GramKernel *kernel, GramMean mean, PetscInt n, const PetscReal x[],
                                 const PetscReal z[], const PetscReal w[], GramExtended *result)
{
  PetscInt coincide[2];
  Wide    *K;
  Means    means;

  PetscFunctionBegin;
  *result = (GramExtended){.singular = -1, .twin = -1};
  PetscCall(PetscMalloc1(GramAt(n, n, 0), &K));
  Fill(kernel, n, x, K, coincide);
  PetscCall(MeansCreate(mean, n, x, z, &means));
  WorstCases(kernel, K, n, &means, w, result);
  PetscCall(MeansDestroy(&means));
  PetscCall(PetscFree(K));
  PetscFunctionReturn(PETSC_SUCCESS);
}
