#include "design.h"

#define BITS   52 /* of a Sobol coordinate */
#define DEGREE 7  /* of its polynomials, the largest */

/* What the points of a call have in common */
typedef struct {
  uint64_t base[GRAM_MAX_DIM];                     /* halton: primes */
  uint64_t direction[GRAM_DESIGN_SOBOL_DIM][BITS]; /* sobol: what a bit of the Gray code flips */
  uint64_t shift[GRAM_DESIGN_SOBOL_DIM];
} Tables;

PetscErrorCode GramDesignFind(const char *name, GramDesignKind *kind, PetscBool *found)
{
#define DESIGN_NAME(UPPER, name) name,
  static const char *const names[] = {GRAM_DESIGN_LIST(DESIGN_NAME)};
#undef DESIGN_NAME

  PetscFunctionBegin;
  *found = PETSC_FALSE;
  for (int k = 0; k < GRAM_DESIGN_NAMED && !*found; k++) {
    PetscCall(PetscStrcmp(name, names[k], found));
    if (*found) *kind = (GramDesignKind)k;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static void Primes(PetscInt n, uint64_t primes[])
{
  uint64_t candidate = 2;

  for (PetscInt found = 0; found < n; candidate++) {
    PetscInt k = 0;

    while (k < found && candidate % primes[k]) k++;
    if (k == found) primes[found++] = candidate;
  }
}

/* Digits in reverse over the power of the base, both below 2^53: one rounding */
static PetscReal RadicalInverse(uint64_t base, uint64_t i)
{
  uint64_t reversed = 0, power = 1;

  for (; i; i /= base) {
    reversed = reversed * base + i % base;
    power *= base;
  }
  return (PetscReal)reversed / (PetscReal)power;
}

/*
  Coordinate k has a primitive polynomial x^s + a_1 x^(s-1) + ... + a_(s-1) x + 1 over two elements, a as bits, and first
  numbers m_1 .. m_s; the others follow from

      m_i = 2 a_1 m_(i-1) ^ 4 a_2 m_(i-2) ^ ... ^ 2^(s-1) a_(s-1) m_(i-s+1) ^ 2^s m_(i-s) ^ m_(i-s)

  and bit i of the code flips m_i / 2^i. Coordinate 0 has m_i = 1.
*/
static void Directions(PetscInt dim, uint64_t direction[][BITS])
{
  /* new-joe-kuo-6.21201, Copyright (c) 2008, Frances Y. Kuo and Stephen Joe, under a BSD licence */
  static const struct {
    unsigned s, a;
    uint64_t m[DEGREE];
  } sobol[GRAM_DESIGN_SOBOL_DIM - 1] = {
      {1, 0, {1}},
      {2, 1, {1, 3}},
      {3, 1, {1, 3, 1}},
      {3, 2, {1, 1, 1}},
      {4, 1, {1, 1, 3, 3}},
      {4, 4, {1, 3, 5, 13}},
      {5, 2, {1, 1, 5, 5, 17}},
      {5, 4, {1, 1, 5, 5, 5}},
      {5, 7, {1, 1, 7, 11, 19}},
      {5, 11, {1, 1, 5, 1, 1}},
      {5, 13, {1, 1, 1, 3, 11}},
      {5, 14, {1, 3, 5, 5, 31}},
      {6, 1, {1, 3, 3, 9, 7, 49}},
      {6, 13, {1, 1, 1, 15, 21, 21}},
      {6, 16, {1, 3, 1, 13, 27, 49}},
      {6, 19, {1, 1, 1, 15, 7, 5}},
      {6, 22, {1, 3, 1, 15, 13, 25}},
      {6, 25, {1, 1, 5, 5, 19, 61}},
      {7, 1, {1, 3, 7, 11, 23, 15, 103}},
      {7, 4, {1, 3, 7, 13, 13, 15, 69}},
  };

  for (unsigned i = 0; i < BITS; i++) direction[0][i] = (uint64_t)1 << (BITS - 1 - i);
  for (PetscInt k = 1; k < dim; k++) {
    const unsigned s = sobol[k - 1].s, a = sobol[k - 1].a;
    uint64_t      *v = direction[k]; /* m of i + 1, times 2^(BITS - 1 - i), which holds the 2^j above */

    for (unsigned i = 0; i < s && i < DEGREE; i++) v[i] = sobol[k - 1].m[i] << (BITS - 1 - i);
    for (unsigned i = s; i < BITS; i++) {
      v[i] = v[i - s] ^ (v[i - s] >> s);
      for (unsigned j = 1; j < s; j++) {
        if (a >> (s - 1 - j) & 1) v[i] ^= v[i - j];
      }
    }
  }
}

static PetscReal SobolCoordinate(const Tables *t, PetscInt k, uint64_t i)
{
  uint64_t bits = t->shift[k];

  for (uint64_t gray = i ^ (i >> 1), b = 0; gray; gray >>= 1, b++) {
    if (gray & 1) bits ^= t->direction[k][b];
  }
  return (PetscReal)bits * 0x1p-52;
}

static PetscErrorCode Check(const GramDesign *d, PetscInt64 first, PetscInt n)
{
  PetscInt64 last = 0;

  PetscFunctionBegin;
  PetscCheck(1 <= d->dim && d->dim <= GRAM_MAX_DIM, PETSC_COMM_SELF, PETSC_ERR_ARG_OUTOFRANGE,
             "%" PetscInt_FMT " coordinates, not 1 .. %d", d->dim, GRAM_MAX_DIM);
  PetscCheck(d->kind != GRAM_DESIGN_SOBOL || d->dim <= GRAM_DESIGN_SOBOL_DIM, PETSC_COMM_SELF,
             PETSC_ERR_ARG_OUTOFRANGE, "a Sobol sequence of %" PetscInt_FMT " coordinates, no more than %d",
             d->dim, GRAM_DESIGN_SOBOL_DIM);
  switch (d->kind) {
  case GRAM_DESIGN_HALTON:
    last =
        d->seed < (uint64_t)GRAM_DESIGN_HALTON_LAST ? GRAM_DESIGN_HALTON_LAST - 1 - (PetscInt64)d->seed : 0;
    break;
  case GRAM_DESIGN_SOBOL: last = GRAM_DESIGN_SOBOL_LAST; break;
  case GRAM_DESIGN_RANDOM: last = INT64_MAX / GRAM_MAX_DIM; break;
  case GRAM_DESIGN_GRID:
    last = 1;
    for (PetscInt k = 0; k < d->dim; k++) {
      PetscCheck(d->counts[k] >= 1, PETSC_COMM_SELF, PETSC_ERR_ARG_OUTOFRANGE,
                 "%" PetscInt_FMT " points along coordinate %" PetscInt_FMT, d->counts[k], k);
      last = last > INT64_MAX / d->counts[k] ? INT64_MAX : last * d->counts[k];
    }
    break;
  }
  PetscCheck(0 <= n && 0 <= first && first <= last - n, PETSC_COMM_SELF, PETSC_ERR_ARG_OUTOFRANGE,
             "%" PetscInt_FMT " points from number %" PetscInt64_FMT " on, of %" PetscInt64_FMT, n, first,
             last);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDesignPoints(const GramDesign *d, PetscInt64 first, PetscInt n, PetscReal *x)
{
  Tables t;

  PetscFunctionBegin;
  PetscCall(Check(d, first, n));
  if (d->kind == GRAM_DESIGN_HALTON) Primes(d->dim, t.base);
  if (d->kind == GRAM_DESIGN_SOBOL) {
    Directions(d->dim, t.direction);
    for (PetscInt k = 0; k < d->dim; k++)
      t.shift[k] = d->seed ? GramHash(d->seed, (uint64_t)k) >> (64 - BITS) : 0;
  }
  for (PetscInt row = 0; row < n; row++) {
    const uint64_t i    = (uint64_t)(first + row);
    uint64_t       rest = i; /* of a grid's index, in coordinates up to k */

    for (PetscInt k = d->dim - 1; k >= 0; k--) {
      PetscReal u = 0.5, *to = x + GramAt(row, d->dim, k);

      switch (d->kind) {
      case GRAM_DESIGN_HALTON: u = RadicalInverse(t.base[k], 1 + d->seed + i); break;
      case GRAM_DESIGN_SOBOL: u = SobolCoordinate(&t, k, i); break;
      case GRAM_DESIGN_RANDOM: u = GramUniform(d->seed, i * (uint64_t)d->dim + (uint64_t)k); break;
      case GRAM_DESIGN_GRID:
        if (d->counts[k] > 1) u = (PetscReal)(rest % (uint64_t)d->counts[k]) / (PetscReal)(d->counts[k] - 1);
        rest /= (uint64_t)d->counts[k];
        break;
      }
      /* rounding can step over the end, and short of it where it should arrive */
      *to = u < 1 ? PetscMin(d->lower[k] + u * (d->upper[k] - d->lower[k]), d->upper[k]) : d->upper[k];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}
