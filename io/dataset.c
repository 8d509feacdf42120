#include <petscsf.h>

#include "dataset.h"
#include "h5.h"
#include "memory.h"
#include "reproducible.h"

#define WINDOW 262144 /* rows of a file that all ranks together hold while they pick those of an index */

/* The rows of a file that are used: all, the first few, or those of an index dataset in its order; and the stretch of
   them that is at hand, spread over the ranks. */
typedef struct {
  MPI_Comm  comm;
  PetscInt  n_file, n;           /* rows in the file, rows used */
  PetscInt  n_local, first;      /* of this rank, counted among those used */
  PetscInt *row;                 /* [n_local] with an index: rows of the file; NULL: first, first + 1 ... */
  char      index[128], key[64]; /* the index dataset, or "" */
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
  PetscInt ndims, cols;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(s, sizeof *s));
  s->comm   = comm;
  s->n_file = s->n = n_file;
  PetscCall(PetscStrncpy(s->index, index, sizeof s->index));
  PetscCall(PetscSNPrintf(s->key, sizeof s->key, "%s.index", group));
  if (index[0]) PetscCall(GramH5GetShape(file, index, s->key, PETSC_TRUE, &ndims, &s->n, &cols));
  GramCheckInput(!index[0] || ndims == 1, comm, "%s: dataset '%s' has 2 dimensions, not 1", s->key, index);
  GramCheckInput(s->n > 0, comm, "%s: dataset '%s' is empty", s->key, index);
  GramCheckInput(limit <= s->n, comm,
                 "%s.limit: %" PetscInt_FMT " rows asked for, %" PetscInt_FMT " are there", group, limit,
                 s->n);
  if (limit > 0) s->n = limit;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* To rows [at, at + n) of those used. */
static PetscErrorCode SelectionMove(GramH5 file, PetscInt at, PetscInt n, Selection *s)
{
  PetscInt   bad = -1, row;
  PetscReal *number, value;

  PetscFunctionBegin;
  PetscCall(Split(s->comm, n, &s->n_local, &s->first));
  s->first += at;
  if (!s->index[0]) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree(s->row));
  PetscCall(PetscMalloc1(s->n_local, &number));
  PetscCall(PetscMalloc1(s->n_local + 1, &s->row)); /* not NULL: there is an index */
  PetscCall(GramH5ReadRows(file, s->index, s->key, s->first, s->n_local, number));
  for (PetscInt i = 0; i < s->n_local; i++) {
    if (bad < 0 && !(number[i] >= 0 && number[i] < (PetscReal)s->n_file)) bad = s->first + i;
    s->row[i] = bad < 0 ? (PetscInt)number[i] : 0;
  }
  PetscCall(FirstRow(s->comm, bad, &row));
  value = row >= s->first && row < s->first + s->n_local ? number[row - s->first] : -PETSC_MAX_REAL;
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPIU_REAL, MPI_MAX, s->comm));
  GramCheckInput(row < 0, s->comm,
                 "%s: dataset '%s' row %" PetscInt_FMT " is %.17g, not a row 0 ... %" PetscInt_FMT, s->key,
                 s->index, row, (double)value, s->n_file - 1);
  PetscCall(PetscFree(number));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Those of rows [at, at + n) of a dataset that an index names, to where it names them in x. */
static PetscErrorCode WindowRead(GramH5 file, const char *name, const char *key, PetscInt cols, PetscInt at,
                                 PetscInt n, const Selection *s, PetscReal *x)
{
  PetscInt     n_read, first, leaves = 0, *to, *from;
  PetscReal   *read;
  PetscLayout  layout;
  PetscSF      sf;
  MPI_Datatype type;

  PetscFunctionBegin;
  PetscCall(Split(s->comm, n, &n_read, &first));
  PetscCall(PetscMalloc1((size_t)n_read * (size_t)cols, &read));
  PetscCall(GramH5ReadRows(file, name, key, at + first, n_read, read));
  PetscCall(PetscMalloc2(s->n_local, &to, s->n_local, &from));
  for (PetscInt i = 0; i < s->n_local; i++) {
    if (s->row[i] < at || s->row[i] >= at + n) continue;
    to[leaves]     = i;
    from[leaves++] = s->row[i] - at;
  }
  PetscCall(PetscLayoutCreateFromSizes(s->comm, n_read, n, 1, &layout));
  PetscCall(PetscSFCreate(s->comm, &sf));
  PetscCall(PetscSFSetGraphLayout(sf, layout, leaves, to, PETSC_COPY_VALUES, from));
  PetscCall(PetscLayoutDestroy(&layout));
  PetscCallMPI(MPI_Type_contiguous((int)cols, MPIU_REAL, &type));
  PetscCallMPI(MPI_Type_commit(&type));
  PetscCall(PetscSFBcastBegin(sf, type, read, x, MPI_REPLACE));
  PetscCall(PetscSFBcastEnd(sf, type, read, x, MPI_REPLACE));
  PetscCallMPI(MPI_Type_free(&type));
  PetscCall(PetscSFDestroy(&sf));
  PetscCall(PetscFree2(to, from));
  PetscCall(PetscFree(read));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The rows at hand of a dataset, [n_local][cols]. With an index the file is read from the least row to the largest. */
static PetscErrorCode SelectionRead(GramH5 file, const char *name, const char *key, PetscInt cols,
                                    const Selection *s, PetscReal *x)
{
  PetscInt span[2] = {-PETSC_MAX_INT, -1}; /* minus the least row, the largest */

  PetscFunctionBegin;
  if (!s->row) {
    PetscCall(GramH5ReadRows(file, name, key, s->first, s->n_local, x));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  for (PetscInt i = 0; i < s->n_local; i++) {
    span[0] = PetscMax(span[0], -s->row[i]);
    span[1] = PetscMax(span[1], s->row[i]);
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, span, 2, MPIU_INT, MPI_MAX, s->comm));
  for (PetscInt at = -span[0], n; at <= span[1]; at += n) {
    n = PetscMin(WINDOW, span[1] + 1 - at);
    PetscCall(WindowRead(file, name, key, cols, at, n, s, x));
  }
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
      if (PetscIsInfOrNanReal(x[GramAt(i, cols, c)])) bad = s->row ? s->row[i] : s->first + i;
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
    bad      = s->row ? s->row[i] : s->first + i;
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
  const char *key;   /* of the file, where it is not group.file */
  char        key_points[64];
  char        file[PETSC_MAX_PATH_LEN], points[128], values[128], gradients[128], index[128];
  PetscInt    limit;
  PetscBool   optional; /* values: none are read where the file has none */
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
  PetscCall(PetscSNPrintf(s->key_points, sizeof s->key_points, "%s.points", group));
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
static PetscErrorCode CheckMemory(const GramDataset *d, PetscInt n, const char *what)
{
  const PetscLogDouble dim = d->scaling.sphere ? 3 : d->dim_file, q = PetscMax(d->q, d->scaling.q);
  PetscMPIInt          size;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_size(d->comm, &size));
  PetscCall(GramMemoryCheck(d->comm, n, 16.0 * (PetscLogDouble)n / size * (d->dim_file + dim + q), what, NULL,
                            NULL, 0));
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

static PetscErrorCode ValuesKey(const Source *source, char key[], size_t size)
{
  PetscFunctionBegin;
  if (source->key) PetscCall(PetscStrncpy(key, source->key, size));
  else PetscCall(PetscSNPrintf(key, size, "%s.values", source->group));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The file, and which of its rows are used: shapes are looked at, no numbers yet. */
static PetscErrorCode SourceOpen(Source *source, GramDataset *d, GramH5 *file, Selection *rows)
{
  PetscInt  ndims, n, n_values;
  PetscBool there = PETSC_TRUE;
  char      key_file[64], key_values[64];

  PetscFunctionBegin;
  if (source->key) PetscCall(PetscStrncpy(key_file, source->key, sizeof key_file));
  else PetscCall(PetscSNPrintf(key_file, sizeof key_file, "%s.file", source->group));
  PetscCall(ValuesKey(source, key_values, sizeof key_values));
  PetscCall(GramH5OpenRead(d->comm, source->file, key_file, file));
  PetscCall(GramH5GetShape(*file, source->points, source->key_points, PETSC_FALSE, &ndims, &n, &d->dim_file));
  GramCheckInput(n > 0 && d->dim_file > 0, d->comm, "%s: dataset '%s' of '%s' is empty", source->key_points,
                 source->points, source->file);
  GramCheckInput(d->dim_file <= GRAM_MAX_DIM, d->comm,
                 "%s: dataset '%s' has %" PetscInt_FMT " columns, more than %d", source->key_points,
                 source->points, d->dim_file, GRAM_MAX_DIM);
  if (source->optional) PetscCall(GramH5Exists(*file, source->values, &there));
  if (!there) source->values[0] = '\0';
  if (source->values[0]) {
    PetscCall(GramH5GetShape(*file, source->values, key_values, PETSC_FALSE, &ndims, &n_values, &d->q));
    GramCheckInput(n_values == n, d->comm,
                   "%s: dataset '%s' has %" PetscInt_FMT " rows, but '%s' has %" PetscInt_FMT, key_values,
                   source->values, n_values, source->points, n);
    GramCheckInput(d->q > 0, d->comm, "%s: dataset '%s' of '%s' is empty", key_values, source->values,
                   source->file);
  }
  PetscCall(SelectionCreate(d->comm, *file, source->group, source->index, source->limit, n, rows));
  if (source->gradients[0]) PetscCall(CheckGradients(*file, source, n, d));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Points, and values and gradients when they are named, of rows [at, at + n) of those used, as they stand in the file. */
static PetscErrorCode ReadRows(const Source *source, GramH5 file, PetscInt at, PetscInt n, Selection *rows,
                               GramDataset *d)
{
  char key_values[64];

  PetscFunctionBegin;
  PetscCall(SelectionMove(file, at, n, rows));
  d->n       = n;
  d->n_local = rows->n_local;
  d->first   = rows->first;
  PetscCall(PetscMalloc1((size_t)d->n_local * (size_t)d->dim_file, &d->x_file));
  PetscCall(SelectionRead(file, source->points, source->key_points, d->dim_file, rows, d->x_file));
  PetscCall(CheckFinite(d->comm, source->key_points, source->points, rows, d->dim_file, d->x_file));
  if (d->scaling.sphere) PetscCall(CheckLatitudes(source->key_points, source->points, rows, d));
  if (source->values[0]) {
    PetscCall(ValuesKey(source, key_values, sizeof key_values));
    PetscCall(PetscMalloc1((size_t)d->n_local * (size_t)d->q, &d->y));
    PetscCall(SelectionRead(file, source->values, key_values, d->q, rows, d->y));
    PetscCall(CheckFinite(d->comm, key_values, source->values, rows, d->q, d->y));
  }
  if (source->gradients[0]) {
    PetscCall(PetscMalloc1(GramAt(d->n_local, d->dim_file, 0), &d->gradients));
    PetscCall(SelectionRead(file, source->gradients, "data.gradients", d->dim_file, rows, d->gradients));
    PetscCall(CheckFinite(d->comm, "data.gradients", source->gradients, rows, d->dim_file, d->gradients));
  }
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
  Selection                rows;
  GramH5                   file;

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
  PetscCall(SourceOpen(&source, data, &file, &rows));
  PetscCall(CheckMemory(data, rows.n, source.key_points));
  PetscCall(ReadRows(&source, file, 0, rows.n, &rows, data));
  data->row = rows.row;
  PetscCall(GramH5Close(&file));
  PetscCall(Standardize(data, (PetscBool)(choice & 1), (PetscBool)(choice & 2)));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDatasetReadPoints(MPI_Comm comm, const char *key, const char *path, const char *column,
                                     GramDataset *data)
{
  Source    source = {.group = "data", .key = key};
  Selection rows;
  GramH5    file;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(data, sizeof *data));
  data->comm = comm;
  if (!key) PetscCall(SourceFromOptions(comm, "data", "", &source));
  else {
    PetscCall(PetscStrncpy(source.file, path, sizeof source.file));
    PetscCall(PetscStrncpy(source.points, "x", sizeof source.points));
    PetscCall(PetscStrncpy(source.key_points, key, sizeof source.key_points));
  }
  source.values[0] = '\0'; /* a file of nodes has no values, and need not be asked for them */
  if (column) PetscCall(PetscStrncpy(source.values, column, sizeof source.values));
  source.optional = (PetscBool)(column != NULL);
  GramCheckInput(source.file[0], comm, "%s: no file given", key ? key : "data.file");
  PetscCall(SourceOpen(&source, data, &file, &rows));
  PetscCall(CheckMemory(data, rows.n, source.key_points));
  PetscCall(ReadRows(&source, file, 0, rows.n, &rows, data));
  data->row = rows.row;
  PetscCall(GramH5Close(&file));
  PetscCall(Standardize(data, PETSC_FALSE, PETSC_FALSE));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ---- targets */

/* Where the rows come from: a file, or with file NULL a grid. */
struct _p_GramTargetSource {
  Source    names;
  GramH5    file;
  Selection rows;
  PetscInt  grid[GRAM_MAX_DIM];
  PetscReal lower[GRAM_MAX_DIM], upper[GRAM_MAX_DIM];
};

/* -target_grid [n_1, ..., n_d] on the bounding box of the data, in the file's coordinates. */
static PetscErrorCode GridOpen(GramTargets *t, PetscInt n, PetscInt n_box, const PetscReal *box)
{
  struct _p_GramTargetSource *s     = t->source;
  MPI_Comm                    comm  = t->rows.comm;
  PetscReal                   total = 1;

  PetscFunctionBegin;
  GramCheckInput(n == t->rows.dim_file, comm,
                 "target.grid: %" PetscInt_FMT " numbers, but the points have %" PetscInt_FMT " columns", n,
                 t->rows.dim_file);
  for (PetscInt c = 0; c < n; c++) {
    GramCheckInput(s->grid[c] > 0, comm, "target.grid: %" PetscInt_FMT " is not > 0", s->grid[c]);
    total *= (PetscReal)s->grid[c];
    s->lower[c] = PETSC_MAX_REAL;
    s->upper[c] = PETSC_MIN_REAL;
    for (PetscInt i = 0; i < n_box; i++) {
      s->lower[c] = PetscMin(s->lower[c], box[GramAt(i, n, c)]);
      s->upper[c] = PetscMax(s->upper[c], box[GramAt(i, n, c)]);
    }
  }
  GramCheckInput(total < (PetscReal)PETSC_MAX_INT, comm, "target.grid: %.6g points are too many",
                 (double)total);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, s->lower, (PetscMPIInt)n, MPIU_REAL, MPI_MIN, comm));
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, s->upper, (PetscMPIInt)n, MPIU_REAL, MPI_MAX, comm));
  t->n = (PetscInt)total;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* points [at, at + n) of the grid */
static PetscErrorCode GridRead(const struct _p_GramTargetSource *s, PetscInt at, PetscInt n, GramDataset *d)
{
  PetscFunctionBegin;
  d->n = n;
  PetscCall(Split(d->comm, n, &d->n_local, &d->first));
  d->first += at;
  PetscCall(PetscMalloc1(GramAt(d->n_local, d->dim_file, 0), &d->x_file));
  for (PetscInt i = 0; i < d->n_local; i++) {
    for (PetscInt c = d->dim_file - 1, rest = d->first + i; c >= 0;
         rest /= s->grid[c], c--) { /* the last coordinate runs fastest */
      const PetscReal f = s->grid[c] > 1 ? (PetscReal)(rest % s->grid[c]) / (PetscReal)(s->grid[c] - 1) : 0.5;

      d->x_file[GramAt(i, d->dim_file, c)] = (1 - f) * s->lower[c] + f * s->upper[c];
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode FileOpen(GramTargets *t, PetscInt dim)
{
  struct _p_GramTargetSource *s = t->source;

  PetscFunctionBegin;
  PetscCall(SourceOpen(&s->names, &t->rows, &s->file, &s->rows));
  GramCheckInput(t->rows.dim_file == dim, t->rows.comm,
                 "target.points: dataset '%s' has %" PetscInt_FMT
                 " columns, but the model's points have %" PetscInt_FMT,
                 s->names.points, t->rows.dim_file, dim);
  GramCheckInput(!t->rows.q || t->rows.q == t->rows.scaling.q, t->rows.comm,
                 "target.values: dataset '%s' has %" PetscInt_FMT
                 " columns, but the model's values have %" PetscInt_FMT,
                 s->names.values, t->rows.q, t->rows.scaling.q);
  t->n = s->rows.n;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Rows at once: what they and their predictions take stays below 2^21 numbers, or 1024 rows. A variance takes a solve
   each: there progress is to be seen. */
static PetscInt ChunkDefault(const GramTargets *t)
{
  const PetscInt q = t->rows.scaling.q, dim = t->rows.scaling.dim;
  const PetscInt numbers = 2 * dim + q * (t->gradient ? 1 + dim : 1);

  return t->variance ? 2048 : PetscMax(1024, PetscMin(262144, 2097152 / numbers));
}

PetscErrorCode GramTargetsOpen(MPI_Comm comm, const GramScaling *scaling, PetscInt dim, PetscInt n_box,
                               const PetscReal *box, GramTargets *t)
{
  PetscInt  n = GRAM_MAX_DIM;
  PetscBool gridded, chunked;
  Source   *names;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(t, sizeof *t));
  PetscCall(PetscNew(&t->source));
  names            = &t->source->names;
  t->rows.comm     = comm;
  t->rows.dim_file = dim;
  PetscCall(SourceFromOptions(comm, "target", "", names));
  PetscOptionsBegin(comm, "target_", "Where to predict", NULL);
  PetscCall(PetscOptionsIntArray("-grid", "Points per coordinate on the bounding box of the data", NULL,
                                 t->source->grid, &n, &gridded));
  PetscCall(PetscOptionsBool("-gradient", "Gradient of the mean", NULL, t->gradient, &t->gradient, NULL));
  PetscCall(
      PetscOptionsBool("-variance", "Variance of the prediction", NULL, t->variance, &t->variance, NULL));
  PetscCall(
      PetscOptionsInt("-chunk", "Targets at once, over all ranks", NULL, t->chunk, &t->chunk, &chunked));
  PetscOptionsEnd();
  GramCheckInput(!t->gradient || !scaling->sphere, comm, "target.gradient: not with data.sphere");
  GramCheckInput(!chunked || t->chunk > 0, comm, "target.chunk: %" PetscInt_FMT " is not > 0", t->chunk);
  GramCheckInput(!gridded || !names->file[0], comm,
                 "target.grid: give either target.grid or target.file, not both");
  GramCheckInput(names->file[0] || !names->values[0], comm, "target.values: needs a target.file");
  GramCheckInput(names->file[0] || !names->index[0], comm, "target.index: needs a target.file");
  if (!gridded && !names->file[0]) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramScalingCopy(scaling, &t->rows.scaling));
  if (gridded) PetscCall(GridOpen(t, n, n_box, box));
  else PetscCall(FileOpen(t, dim));
  if (!chunked) t->chunk = ChunkDefault(t);
  t->chunk = PetscMin(t->chunk, t->n);
  PetscCall(CheckMemory(&t->rows, t->chunk, gridded ? "target.grid" : names->key_points));
  for (PetscInt at = 0; at < t->n && !gridded; at += t->chunk) PetscCall(GramTargetsRead(t, at));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode RowsClear(GramDataset *d)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(d->row));
  PetscCall(PetscFree(d->x_file));
  PetscCall(PetscFree(d->x));
  PetscCall(PetscFree(d->y));
  PetscCall(PetscFree(d->gradients));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTargetsRead(GramTargets *t, PetscInt at)
{
  const PetscInt n = PetscMin(t->chunk, t->n - at);
  GramDataset   *d = &t->rows;

  PetscFunctionBegin;
  PetscCall(RowsClear(d));
  if (t->source->file) PetscCall(ReadRows(&t->source->names, t->source->file, at, n, &t->source->rows, d));
  else PetscCall(GridRead(t->source, at, n, d));
  d->dim = d->scaling.dim;
  PetscCall(PetscMalloc1(GramAt(d->n_local, d->dim, 0), &d->x));
  PetscCall(GramScalingApply(&d->scaling, d->n_local, d->dim_file, d->x_file, d->x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTargetsClose(GramTargets *t)
{
  PetscFunctionBegin;
  if (t->source->file) PetscCall(GramH5Close(&t->source->file));
  PetscCall(PetscFree(t->source->rows.row));
  PetscCall(PetscFree(t->source));
  PetscCall(GramDatasetClear(&t->rows));
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

PetscErrorCode GramDatasetRefuseEqual(const GramDataset *data, GramPoints X)
{
  PetscInt pair[2], row[2];

  PetscFunctionBegin;
  PetscCall(GramPointsFindDuplicate(X, pair));
  for (int i = 0; i < 2; i++) PetscCall(GramDatasetGetFileRow(data, pair[i], row + i));
  GramCheckInput(pair[0] < 0, data->comm,
                 "data.points: rows %" PetscInt_FMT " and %" PetscInt_FMT
                 " are the same point, and ridge.alpha is 0",
                 row[0], row[1]);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramDatasetClear(GramDataset *d)
{
  PetscFunctionBegin;
  PetscCall(RowsClear(d));
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
