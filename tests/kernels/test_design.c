static const char help[] = "Points of a design are the published numbers, the same in any split, inside "
                           "their box; what the sequences do "
                           "not reach is refused.\n";

#include "../check.h"
#include "design.h"

typedef struct {
  PetscInt64 index;
  PetscInt   k;
  PetscReal  u;
} Number;

/* radical inverses as rational numbers, rounded once; index counts from 0, so one less than what is inverted */
static const Number halton[] = {
    {0, 0, 0x1p-1},
    {0, 1, 0x1.5555555555555p-2},
    {0, 2, 0x1.999999999999ap-3},
    {1, 0, 0x1p-2},
    {1, 1, 0x1.5555555555555p-1},
    {1, 2, 0x1.999999999999ap-2},
    {12344, 1, 0x1.f888d31da4194p-3},
    {12344, 4, 0x1.1a35d1bbfb980p-2},
    {12344, 9, 0x1.6cf6eba5b0145p-1},
    {1000002, 0, 0x1.8485e00000000p-1},
    {1000002, 2, 0x1.333ab75868c43p-1},
    {1000002, 127, 0x1.a6f0a035f695dp-1},
    {8796093022206, 1, 0x1.c27967347498cp-2},
    {8796093022206, 63, 0x1.1187ea771da98p-3},
    {8796093022206, 127, 0x1.58d005e4d92b8p-2},
};

/* scipy.stats.qmc.Sobol(21, scramble=False) of scipy 1.17.1, exact */
static const Number sobol[] = {
    {0, 0, 0},
    {0, 20, 0},
    {1, 0, 0.5},
    {1, 20, 0.5},
    {2, 0, 0.75},
    {2, 1, 0.25},
    {2, 2, 0.25},
    {5, 1, 0.875},
    {5, 2, 0.125},
    {5, 3, 0.375},
    {100, 4, 0.8828125},
    {100, 5, 0.7421875},
    {100, 6, 0.0234375},
    {100, 7, 0.4765625},
    {100, 8, 0.6328125},
    {1000, 9, 0.0693359375},
    {1000, 10, 0.0849609375},
    {1000, 11, 0.2548828125},
    {1000, 12, 0.1611328125},
    {12345, 13, 0.94183349609375},
    {12345, 14, 0.03448486328125},
    {12345, 15, 0.64080810546875},
    {12345, 16, 0.06256103515625},
    {1000003, 17, 0.5074853897094727},
    {1000003, 18, 0.8428945541381836},
    {1000003, 19, 0.6322927474975586},
    {1000003, 20, 0.7901296615600586},
};

static GramDesign Unit(GramDesignKind kind, PetscInt dim, uint64_t seed)
{
  GramDesign d = {.kind = kind, .dim = dim, .seed = seed};

  for (PetscInt k = 0; k < dim; k++) d.upper[k] = 1;
  return d;
}

static PetscErrorCode Published(const char *what, const GramDesign *d, int count, const Number numbers[])
{
  PetscReal x[GRAM_MAX_DIM];

  PetscFunctionBegin;
  for (int q = 0; q < count; q++) {
    PetscCall(GramDesignPoints(d, numbers[q].index, 1, x));
    CHECK(x[numbers[q].k] == numbers[q].u, "%s, point %lld, coordinate %d: %.17g, not %.17g", what,
          (long long)numbers[q].index, (int)numbers[q].k, x[numbers[q].k], numbers[q].u);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* every coordinate of 2^m points from a multiple of 2^m on has one of them in each of 2^m intervals; a shift keeps that */
static PetscErrorCode Nets(uint64_t seed)
{
  enum { M = 10, N = 1 << M };
  const GramDesign d = Unit(GRAM_DESIGN_SOBOL, GRAM_DESIGN_SOBOL_DIM, seed);
  PetscReal       *x, *plain;
  PetscInt         moved = 0;

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(N * d.dim, &x, N * d.dim, &plain));
  for (int f = 0; f < 4; f++) {
    const PetscInt64 first = N * ((PetscInt64[]){0, 1, 12345, (PetscInt64)1 << 41})[f];
    const GramDesign p     = Unit(GRAM_DESIGN_SOBOL, GRAM_DESIGN_SOBOL_DIM, 0);

    PetscCall(GramDesignPoints(&d, first, N, x));
    PetscCall(GramDesignPoints(&p, first, N, plain));
    for (PetscInt k = 0; k < d.dim; k++) {
      PetscInt empty  = N;
      char     met[N] = {0};

      for (PetscInt i = 0; i < N; i++) {
        const PetscInt at = (PetscInt)(x[i * d.dim + k] * N);

        CHECK(x[i * d.dim + k] >= 0 && at < N, "seed %d: coordinate %g", (int)seed, x[i * d.dim + k]);
        if (at < N) empty -= !met[at], met[at] = 1;
        moved += x[i * d.dim + k] != plain[i * d.dim + k];
      }
      CHECK(!empty, "seed %d, point %lld on, coordinate %d: %d intervals are empty", (int)seed,
            (long long)first, (int)k, (int)empty);
    }
  }
  CHECK(!moved == !seed, "seed %d: %d coordinates differ from those of seed 0", (int)seed, (int)moved);
  PetscCall(PetscFree2(x, plain));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* in a box: each split gives the same bits, between lower and upper; another seed gives others */
static PetscErrorCode Box(GramDesignKind kind)
{
  enum { N = 1000, DIM = 3 };
  GramDesign d = {.kind   = kind,
                  .dim    = DIM,
                  .lower  = {0.1, -3, 1e6},
                  .upper  = {0.9, 5, 1e6 + 0.1},
                  .seed   = 7,
                  .counts = {10, 4, 25}};
  PetscReal  all[N * DIM], part[N * DIM], mean[DIM] = {0};
  PetscInt   same = 0;

  PetscFunctionBegin;
  PetscCall(GramDesignPoints(&d, 0, N, all));
  for (PetscInt first = 0, n = 1; first < N; first += n, n = PetscMin(2 * n + 1, N - first))
    PetscCall(GramDesignPoints(&d, first, n, part + first * DIM));
  for (PetscInt i = 0; i < N * DIM; i++) {
    CHECK(all[i] == part[i], "kind %d, number %d: %.17g and %.17g", (int)kind, (int)i, all[i], part[i]);
    CHECK(d.lower[i % DIM] <= all[i] && all[i] <= d.upper[i % DIM], "kind %d: %.17g is outside", (int)kind,
          all[i]);
    mean[i % DIM] += (all[i] - d.lower[i % DIM]) / (d.upper[i % DIM] - d.lower[i % DIM]) / N;
  }
  /* 5 standard deviations of random ones */
  for (PetscInt k = 0; k < DIM; k++)
    CHECK(PetscAbsReal(mean[k] - 0.5) < 0.05, "kind %d: mean %g", (int)kind, mean[k]);
  d.seed = 8;
  PetscCall(GramDesignPoints(&d, 0, N, part));
  for (PetscInt i = 0; i < N * DIM; i++) same += all[i] == part[i];
  CHECK(kind == GRAM_DESIGN_GRID ? same == N * DIM : same < N / 10, "kind %d: %d numbers of two seeds agree",
        (int)kind, (int)same);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Seeds(void)
{
  GramDesign d = Unit(GRAM_DESIGN_HALTON, 2, 4), e = Unit(GRAM_DESIGN_HALTON, 2, 0);
  PetscReal  x[2], y[2];

  PetscFunctionBegin;
  PetscCall(GramDesignPoints(&d, 10, 1, x));
  PetscCall(GramDesignPoints(&e, 14, 1, y));
  CHECK(x[0] == y[0] && x[1] == y[1], "halton: the seed does not move the start");
  d = Unit(GRAM_DESIGN_RANDOM, 2, 4);
  PetscCall(GramDesignPoints(&d, 1000000000000, 1, x));
  for (uint64_t k = 0; k < 2; k++) CHECK(x[k] == GramUniform(4, 2000000000000u + k), "random: %.17g", x[k]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Grid(void)
{
  GramDesign d = {
      .kind = GRAM_DESIGN_GRID, .dim = 3, .lower = {0, -0.1, 2}, .upper = {1, 0.7, 3}, .counts = {50, 29, 1}};
  PetscReal *x;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(50 * 29 * 3, &x));
  PetscCall(GramDesignPoints(&d, 0, 50 * 29, x));
  for (PetscInt i = 0; i < 50; i++) {
    for (PetscInt j = 0; j < 29; j++) {
      const PetscReal *at = x + (i * 29 + j) * 3;

      CHECK(at[0] == (PetscReal)i / 49, "grid: %.17g of %d", at[0], (int)i);
      CHECK_CLOSE("grid", at[1] + 1, 0.9 + 0.8 * (PetscReal)j / 28, 1e-15);
      CHECK(at[2] == 2.5, "grid of one: %g", at[2]);
    }
  }
  CHECK(x[1] == d.lower[1] && x[28 * 3 + 1] == d.upper[1], "ends of the grid: %.17g, %.17g", x[1],
        x[28 * 3 + 1]);
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Refused(const char *what, const GramDesign *d, PetscInt64 first, PetscInt n)
{
  PetscReal      x[2 * GRAM_MAX_DIM + 2];
  PetscErrorCode ierr;

  PetscFunctionBegin;
  PetscCall(PetscPushErrorHandler(PetscReturnErrorHandler, NULL));
  ierr = GramDesignPoints(d, first, n, x);
  PetscCall(PetscPopErrorHandler());
  CHECK(ierr == PETSC_ERR_ARG_OUTOFRANGE, "%s: error %d", what, (int)ierr);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Limits(void)
{
  GramDesign d = Unit(GRAM_DESIGN_SOBOL, 21, 0);
  PetscReal  x[GRAM_MAX_DIM];

  PetscFunctionBegin;
  PetscCall(GramDesignPoints(&d, GRAM_DESIGN_SOBOL_LAST - 1, 1, x));
  PetscCall(Refused("sobol, index", &d, GRAM_DESIGN_SOBOL_LAST - 1, 2));
  PetscCall(Refused("a negative index", &d, -1, 1));
  PetscCall(Refused("a negative number", &d, 0, -1));
  PetscCall(Refused("the last index", &d, INT64_MAX, 2));
  d.dim = 22;
  PetscCall(Refused("sobol, dim", &d, 0, 1));
  d.kind = GRAM_DESIGN_HALTON;
  d.seed = (uint64_t)GRAM_DESIGN_HALTON_LAST - 10;
  PetscCall(GramDesignPoints(&d, 8, 1, x));
  PetscCall(Refused("halton, index", &d, 9, 1));
  d.seed = UINT64_MAX;
  PetscCall(Refused("halton, seed", &d, 0, 1));
  d = Unit(GRAM_DESIGN_GRID, 2, 0);
  PetscCall(Refused("grid of none", &d, 0, 1));
  d.counts[0] = 2;
  d.counts[1] = 1;
  PetscCall(Refused("grid, index", &d, 1, 2));
  d = Unit(GRAM_DESIGN_RANDOM, GRAM_MAX_DIM, 0);
  PetscCall(GramDesignPoints(&d, 0, 0, NULL));
  d.dim = GRAM_MAX_DIM + 1;
  PetscCall(Refused("dim", &d, 0, 1));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Names(void)
{
  GramDesignKind kind = GRAM_DESIGN_GRID;
  PetscBool      found;

  PetscFunctionBegin;
  PetscCall(GramDesignFind("sobol", &kind, &found));
  CHECK(found && kind == GRAM_DESIGN_SOBOL, "sobol is kind %d", (int)kind);
  PetscCall(GramDesignFind("random", &kind, &found));
  CHECK(found && kind == GRAM_DESIGN_RANDOM, "random is kind %d", (int)kind);
  PetscCall(GramDesignFind("grid", &kind, &found));
  CHECK(!found && kind == GRAM_DESIGN_RANDOM, "grid is kind %d", (int)kind);
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  GramDesign d;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  d = Unit(GRAM_DESIGN_HALTON, GRAM_MAX_DIM, 0);
  PetscCall(Published("halton", &d, (int)(sizeof halton / sizeof *halton), halton));
  d = Unit(GRAM_DESIGN_SOBOL, GRAM_DESIGN_SOBOL_DIM, 0);
  PetscCall(Published("sobol", &d, (int)(sizeof sobol / sizeof *sobol), sobol));
  PetscCall(Nets(0));
  PetscCall(Nets(3));
  for (int kind = 0; kind <= GRAM_DESIGN_GRID; kind++) PetscCall(Box((GramDesignKind)kind));
  PetscCall(Seeds());
  PetscCall(Grid());
  PetscCall(Limits());
  PetscCall(Names());
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
