#include <petscsf.h>

#include "dataset.h"
#include "h5.h"
#include "memory.h"
#include "reproducible.h"

/* The rows of a file that are used: all, the first few, or those of an index dataset in its order. */
typedef struct {
  PetscInt  n_file, n, n_local, first; /* rows in the file, rows used, of this rank, its first one */
  PetscSF   sf;                        /* rows as read to rows as used; NULL: read where they are used */
  PetscInt  n_read, first_read;        /* with sf: rows this rank reads */
  PetscInt *row;                       /* [n_local] with sf: rows of the file */
} Selection;

static PetscErrorCode Split(MPI_Comm comm, PetscInt n, PetscInt *n_local, PetscInt *first)
{
  PetscLayout layout;

  PetscFunctionBegin;
  PetscCall(PetscLayoutCreateFromSizes(comm, PETSC_DECIDE, n, 1, &layout));
  PetscCall(PetscLayoutGetRange(layout, first, NULL));
  PetscCall(PetscLayoutGetLocalSize(layout, n_local));
  PetscCall(PetscLayoutDestroy(&layout));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The first row, over all ranks, that some rank complains about (-1: none). */
static PetscErrorCode FirstRow(MPI_Comm comm, PetscInt mine, PetscInt *row)
{
  PetscFunctionBegin;
  if (mine < 0) mine = PETSC_MAX_INT;
  PetscCallMPI(MPI_Allreduce(&mine, row, 1, MPIU_INT, MPI_MIN, comm));
  if (*row == PETSC_MAX_INT) *row = -1;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SelectionCreate(MPI_Comm comm, GramH5 file, const char *group, const char *index,
                                      PetscInt limit, PetscInt n_file, Selection *s)
{
  PetscInt    ndims, cols, bad = -1, row;
  PetscReal  *number, value;
  PetscLayout layout;
  char        key[64];

  PetscFunctionBegin;
  PetscCall(PetscMemzero(s, sizeof *s));
  s->n_file = s->n = n_file;
  PetscCall(PetscSNPrintf(key, sizeof key, "%s.index", group));
  if (index[0]) PetscCall(GramH5GetShape(file, index, key, PETSC_TRUE, &ndims, &s->n, &cols));
  GramCheckInput(!index[0] || ndims == 1, comm, "%s: dataset '%s' has 2 dimensions, not 1", key, index);
  GramCheckInput(limit <= s->n, comm,
                 "%s.limit: %" PetscInt_FMT " rows asked for, %" PetscInt_FMT " are there", group, limit,
                 s->n);
  if (limit > 0) s->n = limit;
  PetscCall(Split(comm, s->n, &s->n_local, &s->first));
  if (!index[0]) PetscFunctionReturn(PETSC_SUCCESS);

  PetscCall(PetscMalloc1(s->n_local, &number));
  PetscCall(PetscMalloc1(s->n_local, &s->row));
  PetscCall(GramH5ReadRows(file, index, key, s->first, s->n_local, number));
  for (PetscInt i = 0; i < s->n_local; i++) {
    if (bad < 0 && !(number[i] >= 0 && number[i] < (PetscReal)n_file)) bad = s->first + i;
    s->row[i] = bad < 0 ? (PetscInt)number[i] : 0;
  }
  PetscCall(FirstRow(comm, bad, &row));
  value = row >= s->first && row < s->first + s->n_local ? number[row - s->first] : -PETSC_MAX_REAL;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPIU_REAL, MPI_MAX, comm));
  GramCheckInput(row < 0, comm,
                 "%s: dataset '%s' row %" PetscInt_FMT " is %.17g, not a row 0 ... %" PetscInt_FMT, key,
                 index, row, (double)value, n_file - 1);

  PetscCall(Split(comm, n_file, &s->n_read, &s->first_read));
  PetscCall(PetscLayoutCreateFromSizes(comm, s->n_read, n_file, 1, &layout));
  PetscCall(PetscSFCreate(comm, &s->sf));
  PetscCall(PetscSFSetGraphLayout(s->sf, layout, s->n_local, NULL, PETSC_OWN_POINTER, s->row));
  PetscCall(PetscLayoutDestroy(&layout));
  PetscCall(PetscFree(number));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The selected rows of a dataset, [n_local][cols]. */
static PetscErrorCode SelectionRead(GramH5 file, const char *name, const char *key, PetscInt cols,
                                    const Selection *s, PetscReal *x)
{
  PetscReal   *read;
  MPI_Datatype type;

  PetscFunctionBegin;
  if (!s->sf) {
    PetscCall(GramH5ReadRows(file, name, key, s->first, s->n_local, x));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(PetscMalloc1((size_t)s->n_read * (size_t)cols, &read));
  PetscCall(GramH5ReadRows(file, name, key, s->first_read, s->n_read, read));
  PetscCallMPI(MPI_Type_contiguous((int)cols, MPIU_REAL, &type));
  PetscCallMPI(MPI_Type_commit(&type));
  PetscCall(PetscSFBcastBegin(s->sf, type, read, x, MPI_REPLACE));
  PetscCall(PetscSFBcastEnd(s->sf, type, read, x, MPI_REPLACE));
  PetscCallMPI(MPI_Type_free(&type));
  PetscCall(PetscFree(read));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Finite, or refused with the place of the first that is not. */
static PetscErrorCode CheckFinite(MPI_Comm comm, const char *key, const char *name, const Selection *s,
                                  PetscInt cols, const PetscReal *x)
{
  PetscInt bad = -1, row;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < s->n_local && bad < 0; i++) {
    for (PetscInt c = 0; c < cols; c++) {
      if (PetscIsInfOrNanReal(x[GramAt(i, cols, c)])) bad = s->sf ? s->row[i] : s->first + i;
    }
  }
  PetscCall(FirstRow(comm, bad, &row));
  GramCheckInput(row < 0, comm, "%s: dataset '%s' row %" PetscInt_FMT " is not a finite number", key, name,
                 row);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckLatitudes(const char *key, const char *name, const Selection *s,
                                     const GramDataset *d)
{
  PetscInt  bad      = -1, row;
  PetscReal latitude = PETSC_MIN_REAL;

  PetscFunctionBegin;
  GramCheckInput(d->dim_file == 2, d->comm,
                 "%s: dataset '%s' has %" PetscInt_FMT
                 " columns; on the sphere it needs 2 (lon, lat in degrees)",
                 key, name, d->dim_file);
  for (PetscInt i = 0; i < d->n_local && bad < 0; i++) {
    if (PetscAbsReal(d->x_file[2 * i + 1]) <= 90) continue;
    bad      = s->sf ? s->row[i] : s->first + i;
    latitude = d->x_file[2 * i + 1];
  }
  PetscCall(FirstRow(d->comm, bad, &row));
  if (row != bad) latitude = PETSC_MIN_REAL;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &latitude, 1, MPIU_REAL, MPI_MAX, d->comm));
  GramCheckInput(row < 0, d->comm,
                 "%s: dataset '%s' row %" PetscInt_FMT " has latitude %.6g, beyond 90 degrees", key, name,
                 row, (double)latitude);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The names a group of keys gives to a file and its datasets. */
typedef struct {
  const char *group; /* "data" or "target" */
  char        file[PETSC_MAX_PATH_LEN], points[128], values[128], gradients[128], index[128];
  PetscInt    limit;
} Source;

static PetscErrorCode SourceFromOptions(MPI_Comm comm, const char *group, const char *values, Source *s)
{
  char      prefix[32];
  PetscBool limited;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(s, sizeof *s));
  s->group = group;
  PetscCall(PetscStrncpy(s->points, "x", sizeof s->points));
  PetscCall(PetscStrncpy(s->values, values, sizeof s->values));
  PetscCall(PetscSNPrintf(prefix, sizeof prefix, "%s_", group));
  PetscOptionsBegin(comm, prefix, "Rows of an HDF5 file", NULL);
  PetscCall(PetscOptionsString("-file", "HDF5 file", NULL, s->file, s->file, sizeof s->file, NULL));
  PetscCall(PetscOptionsString("-points", "Dataset of points, (n, d)", NULL, s->points, s->points,
                               sizeof s->points, NULL));
  PetscCall(PetscOptionsString("-values", "Dataset of values, (n) or (n, q)", NULL, s->values, s->values,
                               sizeof s->values, NULL));
  PetscCall(PetscOptionsString("-index", "Dataset of 0-based rows to use, in that order", NULL, s->index,
                               s->index, sizeof s->index, NULL));
  PetscCall(
      PetscOptionsInt("-limit", "Use only so many rows, after index", NULL, s->limit, &s->limit, &limited));
  PetscOptionsEnd();
  GramCheckInput(!limited || s->limit > 0, comm, "%s.limit: %" PetscInt_FMT " is not > 0", group, s->limit);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Rows of this rank as they stand in the file and standardised, their values, and as many again while they are read
   and sorted. */
static PetscErrorCode CheckMemory(const GramDataset *d, const char *what)
{
  const PetscLogDouble dim = d->scaling.sphere ? 3 : d->dim_file, q = PetscMax(d->q, d->scaling.q);

  PetscFunctionBegin;
  PetscCall(GramMemoryCheck(d->comm, d->n, 16.0 * (PetscLogDouble)d->n_local * (d->dim_file + dim + q), what,
                            NULL, NULL, 0));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CheckGradients(GramH5 file, const Source *source, PetscInt n, const GramDataset *d)
{
  PetscInt ndims, rows, cols;

  PetscFunctionBegin;
  PetscCall(GramH5GetShape(file, source->gradients, "data.gradients", PETSC_FALSE, &ndims, &rows, &cols));
  GramCheckInput(rows == n && cols == d->dim_file, d->comm,
                 "data.gradients: dataset '%s' is %" PetscInt_FMT " x %" PetscInt_FMT
                 ", but '%s' is %" PetscInt_FMT " x %" PetscInt_FMT,
                 source->gradients, rows, cols, source->points, n, d->dim_file);
  GramCheckInput(d->q == 1, d->comm,
                 "data.gradients: needs one column of values, dataset '%s' has %" PetscInt_FMT,
                 source->values, d->q);
  GramCheckInput(!d->scaling.sphere, d->comm, "data.gradients: not with data.sphere");
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Points, and values and gradients when they are named, of the selected rows, as they stand in the file. */
static PetscErrorCode ReadRows(const Source *source, GramDataset *d)
{
  GramH5    file;
  Selection rows;
  PetscInt  ndims, n, n_values;
  char      key_file[64], key_points[64], key_values[64];

  PetscFunctionBegin;
  PetscCall(PetscSNPrintf(key_file, sizeof key_file, "%s.file", source->group));
  PetscCall(PetscSNPrintf(key_points, sizeof key_points, "%s.points", source->group));
  PetscCall(PetscSNPrintf(key_values, sizeof key_values, "%s.values", source->group));
  PetscCall(GramH5OpenRead(d->comm, source->file, key_file, &file));
  PetscCall(GramH5GetShape(file, source->points, key_points, PETSC_FALSE, &ndims, &n, &d->dim_file));
  GramCheckInput(n > 0 && d->dim_file > 0, d->comm, "%s: dataset '%s' of '%s' is empty", key_points,
                 source->points, source->file);
  GramCheckInput(d->dim_file <= GRAM_MAX_DIM, d->comm,
                 "%s: dataset '%s' has %" PetscInt_FMT " columns, more than %d", key_points, source->points,
                 d->dim_file, GRAM_MAX_DIM);
  if (source->values[0]) {
    PetscCall(GramH5GetShape(file, source->values, key_values, PETSC_FALSE, &ndims, &n_values, &d->q));
    GramCheckInput(n_values == n, d->comm,
                   "%s: dataset '%s' has %" PetscInt_FMT " rows, but '%s' has %" PetscInt_FMT, key_values,
                   source->values, n_values, source->points, n);
    GramCheckInput(d->q > 0, d->comm, "%s: dataset '%s' of '%s' is empty", key_values, source->values,
                   source->file);
  }
  PetscCall(SelectionCreate(d->comm, file, source->group, source->index, source->limit, n, &rows));
  GramCheckInput(rows.n > 0, d->comm, "%s.index: dataset '%s' is empty", source->group, source->index);
  d->n       = rows.n;
  d->n_local = rows.n_local;
  if (source->gradients[0]) PetscCall(CheckGradients(file, source, n, d));
  PetscCall(CheckMemory(d, key_points));
  PetscCall(PetscMalloc1((size_t)d->n_local * (size_t)d->dim_file, &d->x_file));
  PetscCall(SelectionRead(file, source->points, key_points, d->dim_file, &rows, d->x_file));
  PetscCall(CheckFinite(d->comm, key_points, source->points, &rows, d->dim_file, d->x_file));
  if (d->scaling.sphere) PetscCall(CheckLatitudes(key_points, source->points, &rows, d));
  if (source->values[0]) {
    PetscCall(PetscMalloc1((size_t)d->n_local * (size_t)d->q, &d->y));
    PetscCall(SelectionRead(file, source->values, key_values, d->q, &rows, d->y));
    PetscCall(CheckFinite(d->comm, key_values, source->values, &rows, d->q, d->y));
  }
  if (source->gradients[0]) {
    PetscCall(PetscMalloc1(GramAt(d->n_local, d->dim_file, 0), &d->gradients));
    PetscCall(SelectionRead(file, source->gradients, "data.gradients", d->dim_file, &rows, d->gradients));
    PetscCall(CheckFinite(d->comm, "data.gradients", source->gradients, &rows, d->dim_file, d->gradients));
  }
  PetscCall(PetscSFDestroy(&rows.sf));
  d->first = rows.first;
  d->row   = rows.row;
  PetscCall(GramH5Close(&file));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Mean and standard deviation (divided by n) of each column over all ranks, the same bits on any number of them; a
   constant column keeps scale 1. */
static PetscErrorCode ColumnMoments(MPI_Comm comm, PetscInt n, PetscInt n_local, PetscInt cols,
                                    const PetscReal *x, PetscReal *mean, PetscReal *deviation)
{
  PetscReal *column;

  PetscFunctionBegin;
  PetscCall(PetscMalloc1(n_local, &column));
  for (PetscInt c = 0; c < cols; c++) {
    const PetscReal *with = NULL;
    PetscReal        sum, square, lower = PETSC_MAX_REAL, upper = PETSC_MIN_REAL, range[2];

    for (PetscInt i = 0; i < n_local; i++) {
      column[i] = x[GramAt(i, cols, c)];
      lower     = PetscMin(lower, column[i]);
      upper     = PetscMax(upper, column[i]);
    }
    PetscCall(GramExactDots(comm, n_local, n, column, 1, &with, &sum));
    mean[c] = sum / (PetscReal)n;
    for (PetscInt i = 0; i < n_local; i++) column[i] -= mean[c];
    with = column;
    PetscCall(GramExactDots(comm, n_local, n, column, 1, &with, &square));
    range[0] = -lower;
    range[1] = upper;
    PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, range, 2, MPIU_REAL, MPI_MAX, comm));
    deviation[c] = range[0] + range[1] > 0 && square > 0 ? PetscSqrtReal(square / (PetscReal)n) : 1;
  }
  PetscCall(PetscFree(column));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Standardize(GramDataset *d, PetscBool points, PetscBool values)
{
  GramScaling *s = &d->scaling;

  PetscFunctionBegin;
  s->dim = d->dim = s->sphere ? 3 : d->dim_file;
  s->q            = d->q;
  PetscCall(PetscMalloc2(d->q, &s->value_shift, d->q, &s->value_scale));
  for (PetscInt c = 0; c < s->dim; c++) s->point_shift[c] = 0, s->point_scale[c] = 1;
  for (PetscInt r = 0; r < d->q; r++) s->value_shift[r] = 0, s->value_scale[r] = 1;
  PetscCall(PetscMalloc1((size_t)d->n_local * (size_t)d->dim, &d->x));
  PetscCall(GramScalingApply(s, d->n_local, d->dim_file, d->x_file, d->x));
  if (points) {
    PetscCall(ColumnMoments(d->comm, d->n, d->n_local, d->dim, d->x, s->point_shift, s->point_scale));
    PetscCall(GramScalingApply(s, d->n_local, d->dim_file, d->x_file, d->x));
  }
  if (values) PetscCall(ColumnMoments(d->comm, d->n, d->n_local, d->q, d->y, s->value_shift, s->value_scale));
  for (PetscInt i = 0; i < d->n_local; i++) {
    for (PetscInt r = 0; r < d->q; r++)
      d->y[GramAt(i, d->q, r)] = (d->y[GramAt(i, d->q, r)] - s->value_shift[r]) / s->value_scale[r];
  }
  for (PetscInt i = 0; i < d->n_local && d->gradients; i++) {
    for (PetscInt c = 0; c < d->dim; c++)
      d->gradients[GramAt(i, d->dim, c)] *= s->point_scale[c] / s->value_scale[0];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDatasetRead(MPI_Comm comm, GramDataset *data)
{
  static const char *const choices[]       = {"none", "points", "values", "both"};
  char                     standardize[16] = "none";
  PetscInt                 choice          = -1;
  Source                   source;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(data, sizeof *data));
  data->comm = comm;
  PetscCall(SourceFromOptions(comm, "data", "y", &source));
  PetscOptionsBegin(comm, "data_", "What the columns mean", NULL);
  PetscCall(PetscOptionsString("-gradients", "Dataset of gradients, (n, d)", NULL, source.gradients,
                               source.gradients, sizeof source.gradients, NULL));
  PetscCall(PetscOptionsBool("-sphere", "Columns are longitude, latitude in degrees", NULL,
                             data->scaling.sphere, &data->scaling.sphere, NULL));
  PetscCall(PetscOptionsString("-standardize", "To mean 0 and deviation 1: none, points, values, both", NULL,
                               standardize, standardize, sizeof standardize, NULL));
  PetscOptionsEnd();
  for (PetscInt i = 0; i < 4; i++) {
    PetscBool same;

    PetscCall(PetscStrcmp(standardize, choices[i], &same));
    if (same) choice = i;
  }
  GramCheckInput(choice >= 0, comm, "data.standardize: '%s' is none of none, points, values, both",
                 standardize);
  GramCheckInput(source.file[0], comm, "data.file: no file given");
  PetscCall(ReadRows(&source, data));
  PetscCall(Standardize(data, (PetscBool)(choice & 1), (PetscBool)(choice & 2)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* -target_grid [n_1, ..., n_d] on the bounding box of the data, in the file's coordinates. */
static PetscErrorCode MakeGrid(GramDataset *t, PetscInt n, const PetscInt grid[], PetscInt n_box,
                               const PetscReal *box)
{
  PetscReal lower[GRAM_MAX_DIM], upper[GRAM_MAX_DIM], total = 1;
  PetscInt  first;

  PetscFunctionBegin;
  GramCheckInput(n == t->dim_file, t->comm,
                 "target.grid: %" PetscInt_FMT " numbers, but the points have %" PetscInt_FMT " columns", n,
                 t->dim_file);
  for (PetscInt c = 0; c < n; c++) {
    GramCheckInput(grid[c] > 0, t->comm, "target.grid: %" PetscInt_FMT " is not > 0", grid[c]);
    total *= (PetscReal)grid[c];
    lower[c] = PETSC_MIN_REAL;
    upper[c] = PETSC_MIN_REAL;
    for (PetscInt i = 0; i < n_box; i++) {
      lower[c] = PetscMax(lower[c], -box[GramAt(i, n, c)]);
      upper[c] = PetscMax(upper[c], box[GramAt(i, n, c)]);
    }
  }
  GramCheckInput(total < (PetscReal)PETSC_MAX_INT, t->comm, "target.grid: %.6g points are too many",
                 (double)total);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, lower, (PetscMPIInt)n, MPIU_REAL, MPI_MAX, t->comm));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, upper, (PetscMPIInt)n, MPIU_REAL, MPI_MAX, t->comm));
  t->n    = (PetscInt)total;
  t->grid = PETSC_TRUE;
  PetscCall(Split(t->comm, t->n, &t->n_local, &first));
  PetscCall(CheckMemory(t, "target.grid"));
  PetscCall(PetscMalloc1((size_t)t->n_local * (size_t)n, &t->x_file));
  for (PetscInt i = 0; i < t->n_local; i++) {
    for (PetscInt c = n - 1, rest = first + i; c >= 0;
         rest /= grid[c], c--) { /* the last coordinate runs fastest */
      const PetscReal f = grid[c] > 1 ? (PetscReal)(rest % grid[c]) / (PetscReal)(grid[c] - 1) : 0.5;

      t->x_file[GramAt(i, n, c)] = (1 - f) * -lower[c] + f * upper[c];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTargetsRead(MPI_Comm comm, const GramScaling *scaling, PetscInt dim, PetscInt n_box,
                               const PetscReal *box, GramDataset *targets)
{
  PetscInt  grid[GRAM_MAX_DIM] = {0}, n = GRAM_MAX_DIM, q = scaling->q;
  PetscBool gridded, variance = PETSC_FALSE;
  Source    source;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(targets, sizeof *targets));
  targets->comm     = comm;
  targets->dim_file = dim;
  PetscCall(SourceFromOptions(comm, "target", "", &source));
  PetscOptionsBegin(comm, "target_", "Where to predict", NULL);
  PetscCall(PetscOptionsIntArray("-grid", "Points per coordinate on the bounding box of the data", NULL, grid,
                                 &n, &gridded));
  PetscCall(PetscOptionsBool("-gradient", "Gradient of the mean", NULL, targets->gradient, &targets->gradient,
                             NULL));
  PetscCall(PetscOptionsBool("-variance", "Variance of the prediction", NULL, variance, &variance, NULL));
  PetscOptionsEnd();
  GramCheckInput(!targets->gradient || !scaling->sphere, comm, "target.gradient: not with data.sphere");
  GramCheckInput(!variance, comm, "target.variance: variances are not available in this version");
  GramCheckInput(!gridded || !source.file[0], comm,
                 "target.grid: give either target.grid or target.file, not both");
  GramCheckInput(source.file[0] || !source.values[0], comm, "target.values: needs a target.file");
  GramCheckInput(source.file[0] || !source.index[0], comm, "target.index: needs a target.file");
  PetscCall(GramScalingCopy(scaling, &targets->scaling));
  if (gridded) PetscCall(MakeGrid(targets, n, grid, n_box, box));
  else if (source.file[0]) {
    PetscCall(ReadRows(&source, targets));
    GramCheckInput(targets->dim_file == dim, comm,
                   "target.points: dataset '%s' has %" PetscInt_FMT
                   " columns, but the model's points have %" PetscInt_FMT,
                   source.points, targets->dim_file, dim);
    GramCheckInput(!targets->y || targets->q == q, comm,
                   "target.values: dataset '%s' has %" PetscInt_FMT
                   " columns, but the model's values have %" PetscInt_FMT,
                   source.values, targets->q, q);
  } else PetscFunctionReturn(PETSC_SUCCESS);
  targets->dim = scaling->dim;
  PetscCall(PetscMalloc1((size_t)targets->n_local * (size_t)targets->dim, &targets->x));
  PetscCall(GramScalingApply(scaling, targets->n_local, targets->dim_file, targets->x_file, targets->x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDatasetGetFileRow(const GramDataset *d, PetscInt i, PetscInt *row)
{
  PetscInt mine = -1;

  PetscFunctionBegin;
  if (i >= d->first && i < d->first + d->n_local) mine = d->row ? d->row[i - d->first] : i;
  PetscCallMPI(MPI_Allreduce(&mine, row, 1, MPIU_INT, MPI_MAX, d->comm));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDatasetClear(GramDataset *d)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(d->row));
  PetscCall(PetscFree(d->x_file));
  PetscCall(PetscFree(d->x));
  PetscCall(PetscFree(d->y));
  PetscCall(PetscFree(d->gradients));
  PetscCall(GramScalingClear(&d->scaling));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramScalingApply(const GramScaling *s, PetscInt n, PetscInt dim_file, const PetscReal *x_file,
                                PetscReal *x)
{
  PetscFunctionBegin;
  for (PetscInt i = 0; i < n; i++) {
    const PetscReal *from = x_file + GramAt(i, dim_file, 0);
    PetscReal       *to   = x + GramAt(i, s->dim, 0);

    if (s->sphere) {
      const PetscReal lon = from[0] * PETSC_PI / 180, lat = from[1] * PETSC_PI / 180;

      to[0] = PetscCosReal(lat) * PetscCosReal(lon);
      to[1] = PetscCosReal(lat) * PetscSinReal(lon);
      to[2] = PetscSinReal(lat);
    } else PetscCall(PetscArraycpy(to, from, s->dim));
    for (PetscInt c = 0; c < s->dim; c++) to[c] = (to[c] - s->point_shift[c]) / s->point_scale[c];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramScalingCopy(const GramScaling *from, GramScaling *to)
{
  PetscFunctionBegin;
  *to = *from;
  PetscCall(PetscMalloc2(from->q, &to->value_shift, from->q, &to->value_scale));
  PetscCall(PetscArraycpy(to->value_shift, from->value_shift, from->q));
  PetscCall(PetscArraycpy(to->value_scale, from->value_scale, from->q));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramScalingClear(GramScaling *s)
{
  PetscFunctionBegin;
  PetscCall(PetscFree2(s->value_shift, s->value_scale));
  PetscFunctionReturn(PETSC_SUCCESS);
}
