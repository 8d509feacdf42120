static const char help[] =
    "A product in pieces is the product at once; every schedule keeps the promises a backend relies on.\n";

#include <string.h>

#include "../check.h"
#include "backend_impl.h"
#include "gram_mat.h"
#include "memory.h"

/* in several lists and with rows that come late, bit by bit; rows of w too where it is another array */
static PetscErrorCode Pieces(const GramKernel *kernel, GramBackend backend, PetscInt q, PetscBool square)
{
  enum { M = 300, CUT = 131 };
  const GramTile list[4] = {{0, CUT, 0, CUT, square ? GRAM_TILE_DIAGONAL : GRAM_TILE_ONCE},
                            {0, 7, CUT, M - CUT, GRAM_TILE_BOTH},
                            {7, CUT - 7, CUT, M - CUT, GRAM_TILE_BOTH},
                            {CUT, M - CUT, CUT, M - CUT, square ? GRAM_TILE_DIAGONAL : GRAM_TILE_BOTH}};
  PetscReal     *x, *z, *v, *w, *y[2], *u[2];
  GramTiles      tiles;

  PetscFunctionBegin;
  PetscCall(PetscMalloc4(M * kernel->dim, &x, M * kernel->dim, &z, M * q, &v, M * q, &w));
  for (PetscInt i = 0; i < M * kernel->dim; i++) {
    x[i] = CheckUniform(1, (uint64_t)i);
    z[i] = CheckUniform(2, (uint64_t)i);
  }
  PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, M, x, GRAM_VALUE, M, square ? NULL : z, &tiles));
  for (int pieces = 0; pieces < 2; pieces++) {
    PetscCall(PetscMalloc2(M * q, &y[pieces], M * q, &u[pieces]));
    for (PetscInt i = 0; i < M * q; i++) { /* what is there is added to */
      y[pieces][i] = CheckUniform(3, (uint64_t)i);
      u[pieces][i] = CheckUniform(4, (uint64_t)i);
      v[i]         = pieces && i >= CUT * q ? NAN : CheckUniform(5, (uint64_t)i) - 0.5;
      w[i]         = pieces && i >= CUT * q ? NAN : CheckUniform(6, (uint64_t)i) - 0.5;
    }
    if (!pieces) {
      PetscCall(GramTilesApply(tiles, 4, list, q, v, y[0], square ? v : w, square ? y[0] : u[0]));
      continue;
    }
    PetscCall(GramTilesBegin(tiles, q, v, y[1], square ? v : w, square ? y[1] : u[1]));
    PetscCall(GramTilesFilled(tiles, PETSC_FALSE, 0, CUT));
    PetscCall(GramTilesFilled(tiles, PETSC_TRUE, 0, CUT));
    PetscCall(GramTilesAdd(tiles, 1, list));
    for (PetscInt i = CUT * q; i < M * q; i++) {
      v[i] = CheckUniform(5, (uint64_t)i) - 0.5;
      w[i] = CheckUniform(6, (uint64_t)i) - 0.5;
    }
    PetscCall(GramTilesFilled(tiles, PETSC_FALSE, CUT, 1));
    PetscCall(GramTilesFilled(tiles, PETSC_FALSE, CUT + 1, M - CUT - 1));
    PetscCall(GramTilesFilled(tiles, PETSC_TRUE, CUT, M - CUT));
    PetscCall(GramTilesAdd(tiles, 2, list + 1));
    PetscCall(GramTilesAdd(tiles, 0, NULL));
    PetscCall(GramTilesAdd(tiles, 1, list + 3));
    PetscCall(GramTilesEnd(tiles));
  }
  CHECK(!memcmp(y[0], y[1], (size_t)(M * q) * sizeof **y) &&
            !memcmp(u[0], u[1], (size_t)(M * q) * sizeof **u),
        "%s, %d columns, %s: pieces differ from the whole", backend->name, (int)q,
        square ? "square" : "rectangular");
  for (int pieces = 0; pieces < 2; pieces++) PetscCall(PetscFree2(y[pieces], u[pieces]));
  PetscCall(GramTilesDestroy(&tiles));
  PetscCall(PetscFree4(x, z, v, w));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The cpu backend under observation: memory that is NaN until it is written, rows that may be read only once they are
   filled, tiles that may come only once. */
static struct {
  struct _p_GramBackend backend;
  GramBackendOps        cpu;
  PetscInt              panels, products; /* alive; begun */
  size_t                copied;           /* bytes */
  PetscBool             late;             /* a list came while rows were missing */
  PetscInt              n_tiles;
  GramTile              tiles[4096]; /* of the product */
  unsigned char        *v, *w;       /* rows that are filled */
  PetscBool             rowwise;
  PetscLogDouble        have;
} watch;

static PetscErrorCode Malloc_Watch(GramTiles t, GramPanelUse use, size_t numbers, PetscReal **panel)
{
  PetscFunctionBegin;
  (void)t;
  (void)use;
  PetscCall(PetscMalloc1(numbers, panel));
  for (size_t i = 0; i < numbers; i++) (*panel)[i] = NAN;
  watch.panels++;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Free_Watch(GramTiles t, PetscReal **panel)
{
  PetscFunctionBegin;
  (void)t;
  PetscCall(PetscFree(*panel));
  watch.panels--;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Copy_Watch(GramBackend b, void *dst, const void *src, size_t bytes)
{
  PetscFunctionBegin;
  (void)b;
  memcpy(dst, src, bytes);
  watch.copied += bytes;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Begin_Watch(GramTiles t, PetscInt q, const PetscReal *v, PetscReal *y,
                                  const PetscReal *w, PetscReal *u)
{
  PetscFunctionBegin;
  CHECK(t->q == q && t->v == v && t->y == y && t->w == w && t->u == u, "the tiles hold other panels");
  watch.products++;
  watch.n_tiles = 0;
  watch.rowwise = t->rowwise;
  PetscCall(PetscCalloc2(t->n, &watch.v, t->m, &watch.w));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Filled_Watch(GramTiles t, PetscBool w, PetscInt first, PetscInt n)
{
  PetscFunctionBegin;
  CHECK(!w || t->w != t->v, "rows of w, which is v");
  for (PetscInt i = first; i < first + n; i++) {
    CHECK(!(w ? watch.w : watch.v)[i], "row %d of %s is filled twice", (int)i, w ? "w" : "v");
    (w ? watch.w : watch.v)[i] = 1;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Add_Watch(GramTiles t, PetscInt n_tiles, const GramTile list[])
{
  const unsigned char *w       = t->w == t->v ? watch.v : watch.w;
  PetscInt             missing = 0;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < t->n; i++) missing += !watch.v[i];
  if (missing) watch.late = PETSC_TRUE;
  for (const GramTile *a = list; a < list + n_tiles; a++) {
    missing = 0;
    for (PetscInt i = a->col; i < a->col + a->n_cols; i++) missing += !watch.v[i];
    for (PetscInt i = a->row; a->use == GRAM_TILE_BOTH && i < a->row + a->n_rows; i++) missing += !w[i];
    CHECK(!missing, "a tile reads %d rows that are not there", (int)missing);
    for (PetscInt k = 0; k < watch.n_tiles; k++)
      CHECK(watch.tiles[k].row != a->row || watch.tiles[k].col != a->col, "tile (%d, %d) came twice",
            (int)a->row, (int)a->col);
    CHECK(watch.n_tiles < (PetscInt)PETSC_STATIC_ARRAY_LENGTH(watch.tiles), "too many tiles");
    watch.tiles[watch.n_tiles++] = *a;
  }
  PetscCall(watch.cpu.add(t, n_tiles, list));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode End_Watch(GramTiles t)
{
  PetscFunctionBegin;
  for (PetscInt i = 0; i < t->n; i++) CHECK(watch.v[i], "row %d of v never came", (int)i);
  PetscCall(PetscFree2(watch.v, watch.w));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Capacity_Watch(GramBackend b, PetscInt m, PetscInt n, PetscInt dim, PetscInt q,
                                     PetscLogDouble *need, PetscLogDouble *have)
{
  PetscFunctionBegin;
  (void)b;
  *need = 8.0 * ((PetscLogDouble)m * dim + (PetscLogDouble)(n ? n : m) * q);
  *have = watch.have;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* panels from a backend that has memory of its own, and from one that has none */
static PetscErrorCode Memory(const GramKernel *kernel, GramBackend backend)
{
  const PetscReal x[3]    = {0};
  const double    data[2] = {1, 2};
  double          copy[2] = {0};
  PetscReal      *panel[3];
  GramTiles       tiles;

  PetscFunctionBegin;
  PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, 1, x, GRAM_VALUE, 0, NULL, &tiles));
  for (int i = 0; i < 3; i++) {
    const size_t numbers[3] = {1, 1000, 0};

    PetscCall(GramTilesMalloc(tiles, i ? GRAM_PANEL_OUT : GRAM_PANEL_IN, numbers[i], &panel[i]));
    CHECK(!panel[i] == !numbers[i], "%d numbers at %p", (int)numbers[i], (void *)panel[i]);
    for (size_t k = 0; k < numbers[i]; k++) panel[i][k] = (PetscReal)k;
  }
  for (int i = 0; i < 3; i++) {
    PetscCall(GramTilesFree(tiles, &panel[i]));
    CHECK(!panel[i], "a freed panel is not NULL");
    PetscCall(GramTilesFree(tiles, &panel[i]));
  }
  CHECK(watch.panels == 0, "%d panels are left", (int)watch.panels);
  PetscCall(GramBackendCopy(backend, copy, data, sizeof data));
  PetscCall(GramBackendCopy(backend, NULL, NULL, 0));
  CHECK(copy[0] == 1 && copy[1] == 2, "copied %g %g", copy[0], copy[1]);
  PetscCall(GramTilesDestroy(&tiles));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* y = K v of q columns under observation and without, bit by bit the same: nothing read that was not there */
static PetscErrorCode Observed(GramPoints T, GramPoints X, const GramKernel *kernel, GramBackend cpu,
                               PetscInt q, PetscBool exact, const char what[])
{
  PetscInt         n_local, m_local, start, n;
  PetscReal       *v;
  const PetscReal *a, *b;
  size_t           copies, columns = (size_t)q * sizeof(PetscReal);
  Mat              A[2], V, Y[2];
  Vec              x, y;

  PetscFunctionBegin;
  PetscCall(GramPointsGetSizes(X, NULL, NULL, &n, &n_local, &start));
  PetscCall(GramPointsGetSizes(T ? T : X, NULL, NULL, NULL, &m_local, NULL));
  PetscCall(MatCreateDense(PETSC_COMM_WORLD, n_local, PETSC_DECIDE, PETSC_DETERMINE, q, NULL, &V));
  PetscCall(MatDenseGetArrayWrite(V, &v));
  for (PetscInt i = 0; i < n_local * q; i++) v[i] = CheckUniform(7, (uint64_t)(start * q + i)) - 0.5;
  PetscCall(MatDenseRestoreArrayWrite(V, &v));
  for (int k = 0; k < 2; k++) {
    GramBackend backend = k ? &watch.backend : cpu;

    if (T) PetscCall(GramMatCreateCross(T, GRAM_VALUE, X, kernel, backend, &A[k]));
    else PetscCall(GramMatCreate(X, kernel, backend, &A[k]));
    watch.products = 0;
    watch.copied   = 0;
    watch.late     = PETSC_FALSE;
    PetscCall(MatMatMult(A[k], V, MAT_INITIAL_MATRIX, PETSC_DEFAULT, &Y[k]));
  }
  copies = columns ? watch.copied / columns : 0;
  CHECK(copies == (size_t)n_local || copies == 2 * (size_t)n_local, "%s: %d rows copied, %d are own", what,
        (int)copies, (int)n_local);
  CHECK(watch.rowwise == (T && exact), "%s: rowwise is %d", what, watch.rowwise);
  CHECK(exact || watch.products == 1, "%s: %d products for one", what, (int)watch.products);
  CHECK(!exact || !watch.late, "%s: a reproducible product did not wait", what);
  if (!T && !exact && n > 2000) { /* every rank has own tiles; on a grid of one row nobody waits for v */
    PetscInt grid[2] = {0, 0}, two = 2;

    PetscCall(PetscOptionsGetIntArray(NULL, NULL, "-product_grid", grid, &two, NULL));
    CHECK(watch.late == (grid[0] > 1), "%s: own tiles before the others: %d", what, watch.late);
  }
  PetscCall(MatDenseGetArrayRead(Y[0], &a));
  PetscCall(MatDenseGetArrayRead(Y[1], &b));
  CHECK(!memcmp(a, b, (size_t)(m_local * q) * sizeof *a), "%s: the watched product is another", what);
  PetscCall(MatDenseRestoreArrayRead(Y[0], &a));
  PetscCall(MatDenseRestoreArrayRead(Y[1], &b));

  /* one column through vectors, which a backend with copies asks where they live; twice the same bits */
  PetscCall(MatCreateVecs(A[1], &x, &y));
  PetscCall(VecSet(x, 1));
  PetscCall(MatMult(A[1], x, y));
  PetscCall(VecGetArrayRead(y, &a));
  PetscCall(PetscMalloc1(m_local, &v));
  PetscCall(PetscArraycpy(v, a, m_local));
  PetscCall(VecRestoreArrayRead(y, &a));
  PetscCall(MatMult(A[1], x, y));
  PetscCall(VecGetArrayRead(y, &a));
  CHECK(!memcmp(a, v, (size_t)m_local * sizeof *a), "%s: a product repeated has other bits", what);
  for (PetscInt i = 0; i < m_local; i++) CHECK(a[i] > 0, "%s: y[%d] = %g", what, (int)i, a[i]);
  PetscCall(VecRestoreArrayRead(y, &a));
  PetscCall(PetscFree(v));
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&y));
  for (int k = 0; k < 2; k++) {
    PetscCall(MatDestroy(&Y[k]));
    PetscCall(MatDestroy(&A[k]));
  }
  PetscCall(MatDestroy(&V));
  CHECK(watch.panels == 0, "%s: %d panels are left", what, (int)watch.panels);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode PointsCreate(PetscInt n, const GramKernel *kernel, PetscInt block, GramPoints *X)
{
  PetscMPIInt rank;
  PetscReal  *x;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCall(PetscMalloc1(n * kernel->dim, &x));
  for (PetscInt i = 0; i < n * kernel->dim; i++) x[i] = CheckUniform(8, (uint64_t)i);
  PetscCall(GramPointsCreate(PETSC_COMM_WORLD, kernel->dim, rank ? 0 : n, x, kernel->length_scale, block, X));
  PetscCall(PetscFree(x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* every grid, with the cover and without, reproducible and not; predictions */
static PetscErrorCode Schedules(PetscInt n, const GramKernel *kernel, GramBackend cpu)
{
  PetscMPIInt size;
  GramPoints  X, T;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  for (int exact = 0; exact < 2; exact++) {
    PetscCall(PetscOptionsSetValue(NULL, "-product_reproducible", exact ? "true" : "false"));
    PetscCall(PointsCreate(n, kernel, exact ? 1024 : 1, &X));
    PetscCall(PointsCreate(67, kernel, 1, &T));
    for (PetscMPIInt pc = 1; pc <= size; pc++) {
      char grid[32], what[128];

      if (size % pc) continue;
      (void)snprintf(grid, sizeof grid, "%d,%d", size / pc, pc);
      PetscCall(PetscOptionsSetValue(NULL, "-product_grid", grid));
      for (int cover = 0; cover < 2; cover++) {
        PetscCall(PetscOptionsSetValue(NULL, "-product_symmetric", cover ? "true" : "false"));
        (void)snprintf(what, sizeof what, "n %d, grid %s, cover %d, reproducible %d", (int)n, grid, cover,
                       exact);
        PetscCall(Observed(NULL, X, kernel, cpu, 1, (PetscBool)exact, what));
        PetscCall(Observed(NULL, X, kernel, cpu, 3, (PetscBool)exact, what));
      }
    }
    PetscCall(
        Observed(T, X, kernel, cpu, 2, (PetscBool)exact, exact ? "reproducible prediction" : "prediction"));
    PetscCall(GramPointsDestroy(&T));
    PetscCall(GramPointsDestroy(&X));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static char message[256];

static PetscErrorCode Listen(MPI_Comm comm, int line, const char *function, const char *file,
                             PetscErrorCode code, PetscErrorType type, const char *text, void *context)
{
  (void)comm;
  (void)line;
  (void)function;
  (void)file;
  (void)context;
  if (type == PETSC_ERROR_INITIAL) (void)snprintf(message, sizeof message, "%s", text);
  return code;
}

/* what is asked for on each kind of grid, and the refusal: rank by rank, the one that lacks most speaks */
static PetscErrorCode Refusal(void)
{
  const PetscLogDouble n    = 100000;
  GramSchedule         line = {.pr = 4, .pc = 1}, square = {.pr = 2, .pc = 2};
  const GramKernel     three = {.dim = 3};
  PetscLogDouble       need, have;
  PetscMPIInt          rank, size;
  PetscErrorCode       code;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(PETSC_COMM_WORLD, &rank));
  PetscCallMPI(MPI_Comm_size(PETSC_COMM_WORLD, &size));
  watch.have = 12e9;
  PetscCall(GramScheduleDeviceBytes(&line, &watch.backend, &three, 100000, 100, &need, &have));
  CHECK_CLOSE("need of 1d", need, 8 * n * (3 + GRAM_PANEL), 1e-15);
  CHECK_CLOSE("have", have, 12e9, 0);
  PetscCall(GramScheduleDeviceBytes(&square, &watch.backend, &three, 100000, 2, &need, &have));
  CHECK_CLOSE("need of 2d", need, 8 * (n / 2 + 1) * (3 + 2), 1e-15);
  PetscCall(GramCrossDeviceBytes(PETSC_COMM_SELF, &watch.backend, 10, 100000, 3, 2, &need, &have));
  CHECK_CLOSE("need of a prediction", need, 8 * (11 * 3 + n * 2), 1e-15);

  PetscCall(GramMemoryCheckDevice(PETSC_COMM_WORLD, 12e9, 12e9, "GPU 0"));
  PetscCall(GramMemoryCheckDevice(PETSC_COMM_WORLD, 0, 0, NULL));
  PetscCall(PetscPushErrorHandler(Listen, NULL));
  code = GramMemoryCheckDevice(PETSC_COMM_WORLD, rank == size - 1 ? 93.1e9 : 13e9, 12e9,
                               rank == size - 1 ? "GPU 0" : "GPU 1");
  PetscCall(PetscPopErrorHandler());
  CHECK(code == GRAM_ERR_RESOURCE, "error code %d", (int)code);
  CHECK(!strcmp(message, "device memory: the product needs 93.1 GB, a rank has 12 GB of GPU 0"),
        "it says: %s", message);
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
  GramKernel  kernel;
  GramBackend cpu, mixed, ref;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(GramKernelSetFromOptions(PETSC_COMM_WORLD, 3, &kernel));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_DOUBLE, &cpu));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "cpu", GRAM_MIXED, &mixed));
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "ref", GRAM_DOUBLE, &ref));
  watch.cpu                  = cpu->ops;
  watch.backend              = *cpu;
  watch.backend.ops.begin    = Begin_Watch;
  watch.backend.ops.filled   = Filled_Watch;
  watch.backend.ops.add      = Add_Watch;
  watch.backend.ops.end      = End_Watch;
  watch.backend.ops.malloc   = Malloc_Watch;
  watch.backend.ops.free     = Free_Watch;
  watch.backend.ops.copy     = Copy_Watch;
  watch.backend.ops.capacity = Capacity_Watch;
  for (int square = 0; square < 2; square++) {
    PetscCall(Pieces(&kernel, cpu, 1, (PetscBool)square));
    PetscCall(Pieces(&kernel, mixed, 17, (PetscBool)square));
    PetscCall(Pieces(&kernel, ref, 2, (PetscBool)square));
  }
  PetscCall(Memory(&kernel, cpu));
  PetscCall(Memory(&kernel, &watch.backend));
  PetscCall(Refusal());
  PetscCall(Schedules(3, &kernel, cpu));
  PetscCall(Schedules(700, &kernel, cpu));
  PetscCall(Schedules(6000, &kernel, cpu));
  PetscCall(GramBackendDestroy(&cpu));
  PetscCall(GramBackendDestroy(&mixed));
  PetscCall(GramBackendDestroy(&ref));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
