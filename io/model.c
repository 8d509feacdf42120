#include <errno.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <petscis.h>

#include "model.h"
#include "polynomial.h"

static PetscBool SameFile(const char *a, const char *b)
{
  struct stat sa, sb;

  return (PetscBool)(!stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
}

/* What stands in the way of writing path: an input error, or a resource that is missing. First rank only. */
static PetscErrorCode OutputProblem(const char *path, PetscBool overwrite, char problem[], size_t size,
                                    PetscBool *resource)
{
  static const char *const inputs[] = {"data_file", "target_file", "model_file", "nodes_start",
                                       "nodes_samples"};
  char                     partial[PETSC_MAX_PATH_LEN + 8]; /* the name it is written under */
  char                     folder[PETSC_MAX_PATH_LEN];
  struct stat              st;

  PetscFunctionBegin;
  problem[0] = '\0';
  *resource  = PETSC_FALSE;
  PetscCall(PetscSNPrintf(partial, sizeof partial, "%s.part", path));
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(inputs); i++) {
    char      option[32], input[PETSC_MAX_PATH_LEN] = "";
    PetscBool set;

    PetscCall(PetscSNPrintf(option, sizeof option, "-%s", inputs[i]));
    PetscCall(PetscOptionsGetString(NULL, NULL, option, input, sizeof input, &set));
    if (set && (SameFile(path, input) || SameFile(partial, input))) {
      PetscCall(PetscSNPrintf(problem, size, "output.file: '%s' is also %.*s.%s; it would be overwritten",
                              path, (int)strcspn(inputs[i], "_"), inputs[i], strchr(inputs[i], '_') + 1));
    }
  }
  PetscCall(PetscStrncpy(folder, path, sizeof folder));
  if (problem[0]) PetscFunctionReturn(PETSC_SUCCESS);
  if (path[strlen(path) - 1] == '/') {
    PetscCall(PetscSNPrintf(problem, size, "output.file: '%s' is a folder", path));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  if (!stat(path, &st) && S_ISDIR(st.st_mode))
    PetscCall(PetscSNPrintf(problem, size, "output.file: '%s' is a folder", path));
  else if (!stat(path, &st) && !S_ISREG(st.st_mode))
    PetscCall(PetscSNPrintf(problem, size, "output.file: '%s' is not a regular file", path));
  else if (!overwrite && !access(path, F_OK))
    PetscCall(PetscSNPrintf(problem, size, "output.file: '%s' exists and output.overwrite is false", path));
  else if (stat(dirname(folder), &st)) {
    PetscCall(PetscStrncpy(folder, path, sizeof folder));
    PetscCall(PetscSNPrintf(problem, size, "output.file: folder '%s' does not exist", dirname(folder)));
  } else {
    PetscCall(PetscStrncpy(folder, path, sizeof folder));
    if (!S_ISDIR(st.st_mode))
      PetscCall(PetscSNPrintf(problem, size, "output.file: '%s' is not a folder", dirname(folder)));
    else if (access(dirname(folder), W_OK | X_OK)) {
      PetscCall(
          PetscSNPrintf(problem, size, "output.file: cannot write into '%s': %s", folder, strerror(errno)));
      *resource = PETSC_TRUE;
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramOutputFromOptions(MPI_Comm comm, char path[], size_t size)
{
  PetscBool   overwrite = PETSC_TRUE, resource = PETSC_FALSE;
  PetscMPIInt rank;
  char        problem[2 * PETSC_MAX_PATH_LEN] = "";

  PetscFunctionBegin;
  PetscCall(PetscStrncpy(path, "result.h5", size));
  PetscOptionsBegin(comm, "output_", "The result", NULL);
  PetscCall(
      PetscOptionsString("-file", "HDF5 file to write", "GramOutputFromOptions", path, path, size, NULL));
  PetscCall(PetscOptionsBool("-overwrite", "Replace a file that exists", "GramOutputFromOptions", overwrite,
                             &overwrite, NULL));
  PetscOptionsEnd();
  GramCheckInput(path[0], comm, "output.file: no file given");
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  if (rank == 0) PetscCall(OutputProblem(path, overwrite, problem, sizeof problem, &resource));
  PetscCallMPI(MPI_Bcast(problem, (PetscMPIInt)sizeof problem, MPI_CHAR, 0, comm));
  PetscCallMPI(MPI_Bcast(&resource, 1, MPIU_BOOL, 0, comm));
  GramCheckResource(!problem[0] || !resource, comm, "%s", problem);
  GramCheckInput(!problem[0], comm, "%s", problem);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode KernelRead(GramH5 file, MPI_Comm comm, PetscInt dim, GramKernel *k)
{
  char      type[32];
  PetscInt  one = 1;
  PetscReal nu, degree;
  PetscBool found, beta;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(k, sizeof *k));
  k->dim = dim;
  PetscCall(GramH5ReadString(file, "kernel", "type", type, sizeof type));
  PetscCall(GramH5ReadAttribute(file, "kernel", "nu", &one, &nu));
  PetscCall(GramKernelSetType(k, type, nu, &found));
  GramCheckInput(found, comm, "model.file: its kernel '%s' (nu %.6g) is not known to this version", type,
                 (double)nu);
  PetscCall(GramH5Exists(file, "kernel@beta", &beta)); /* not in files of version 0.1 */
  if (beta) PetscCall(GramH5ReadAttribute(file, "kernel", "beta", &one, &k->beta));
  k->n_length_scale = GRAM_MAX_DIM;
  PetscCall(GramH5ReadAttribute(file, "kernel", "length_scale", &k->n_length_scale, k->length_scale));
  GramCheckInput(k->n_length_scale == 1 || k->n_length_scale == dim, comm,
                 "model.file: %" PetscInt_FMT " length scales for %" PetscInt_FMT " coordinates",
                 k->n_length_scale, dim);
  for (PetscInt c = k->n_length_scale; c < dim; c++) k->length_scale[c] = k->length_scale[0];
  PetscCall(GramH5ReadAttribute(file, "kernel", "amplitude", &one, &k->amplitude));
  PetscCall(GramH5ReadAttribute(file, "kernel", "ridge_alpha", &one, &k->alpha));
  PetscCall(GramH5ReadAttribute(file, "kernel", "ridge_alpha_gradient", &one, &k->alpha_gradient));
  PetscCall(GramH5ReadAttribute(file, "kernel", "tail_degree", &one, &degree));
  k->tail_degree = (PetscInt)degree;
  GramCheckInput(k->tail_degree >= -1 && k->tail_degree <= 2, comm,
                 "model.file: its tail_degree %" PetscInt_FMT " is not in -1 ... 2", k->tail_degree);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a 1-d dataset of n numbers, on every rank */
static PetscErrorCode SmallRead(GramH5 file, MPI_Comm comm, const char *name, PetscInt n, PetscReal *x)
{
  PetscInt ndims, rows, cols;

  PetscFunctionBegin;
  PetscCall(GramH5GetShape(file, name, "model.file", PETSC_FALSE, &ndims, &rows, &cols));
  GramCheckInput(ndims == 1 && rows == n, comm,
                 "model.file: dataset '%s' does not hold %" PetscInt_FMT " numbers", name, n);
  PetscCall(GramH5ReadRows(file, name, "model.file", 0, n, x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ScalingRead(GramH5 file, MPI_Comm comm, PetscInt dim_file, PetscInt q, GramScaling *s)
{
  PetscInt  one = 1;
  PetscReal sphere;

  PetscFunctionBegin;
  PetscCall(GramH5ReadAttribute(file, "scaling", "sphere", &one, &sphere));
  s->sphere = (PetscBool)(sphere != 0);
  s->dim    = s->sphere ? 3 : dim_file;
  GramCheckInput(!s->sphere || dim_file == 2, comm,
                 "model.file: points on the sphere with %" PetscInt_FMT " columns, not 2", dim_file);
  s->q = q;
  PetscCall(PetscMalloc2(q, &s->value_shift, q, &s->value_scale));
  PetscCall(SmallRead(file, comm, "scaling/point_shift", s->dim, s->point_shift));
  PetscCall(SmallRead(file, comm, "scaling/point_scale", s->dim, s->point_scale));
  PetscCall(SmallRead(file, comm, "scaling/value_shift", q, s->value_shift));
  PetscCall(SmallRead(file, comm, "scaling/value_scale", q, s->value_scale));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* coefficients of values and, where there are some, of gradients: [n_local][1 + dim] of both */
static PetscErrorCode CoefficientsRead(GramH5 file, PetscInt first, GramModel *m)
{
  const PetscInt dim = m->scaling.dim, numbers = 1 + dim;
  PetscInt       ndims, rows, cols;
  PetscReal     *gradients;

  PetscFunctionBegin;
  PetscCall(GramH5Exists(file, "gradient_coefficients", &m->kernel.gradients));
  PetscCall(PetscMalloc1(GramAt(m->n_local, GramKernelNumbers(&m->kernel) * m->q, 0), &m->coefficients));
  PetscCall(GramH5ReadRows(file, "coefficients", "model.file", first, m->n_local, m->coefficients));
  if (!m->kernel.gradients) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramH5GetShape(file, "gradient_coefficients", "model.file", PETSC_FALSE, &ndims, &rows, &cols));
  GramCheckInput(rows == m->n && cols == dim && m->q == 1, m->comm,
                 "model.file: gradient_coefficients are %" PetscInt_FMT " x %" PetscInt_FMT
                 " for %" PetscInt_FMT " points in %" PetscInt_FMT " coordinates",
                 rows, cols, m->n, dim);
  PetscCall(PetscMalloc1(GramAt(m->n_local, dim, 0), &gradients));
  PetscCall(GramH5ReadRows(file, "gradient_coefficients", "model.file", first, m->n_local, gradients));
  for (PetscInt i = m->n_local - 1; i >= 0; i--) { /* from the end, since values are spread out in place */
    m->coefficients[GramAt(i, numbers, 0)] = m->coefficients[i];
    PetscCall(PetscArraycpy(m->coefficients + GramAt(i, numbers, 1), gradients + GramAt(i, dim, 0), dim));
  }
  PetscCall(PetscFree(gradients));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TailRead(GramH5 file, GramModel *m)
{
  PetscInt ndims, rows = 0, cols = m->q;

  PetscFunctionBegin;
  m->n_tail = GramPolynomialSize(m->kernel.tail_degree, m->scaling.dim);
  if (!m->n_tail) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramH5GetShape(file, "tail", "model.file", PETSC_FALSE, &ndims, &rows, &cols));
  GramCheckInput(rows == m->n_tail && cols == m->q, m->comm,
                 "model.file: tail is %" PetscInt_FMT " x %" PetscInt_FMT ", not %" PetscInt_FMT
                 " x %" PetscInt_FMT,
                 rows, cols, m->n_tail, m->q);
  PetscCall(PetscMalloc1(GramAt(m->n_tail, m->q, 0), &m->tail));
  PetscCall(GramH5ReadRows(file, "tail", "model.file", 0, m->n_tail, m->tail));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramModelRead(MPI_Comm comm, GramModel *model)
{
  char        path[PETSC_MAX_PATH_LEN] = "", reason[64] = "";
  PetscInt    ndims, n, first, one = 1;
  PetscReal   converged = 1;
  PetscBool   known;
  PetscLayout layout;
  GramH5      file;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(model, sizeof *model));
  model->comm = comm;
  PetscOptionsBegin(comm, "model_", "A fitted model", NULL);
  PetscCall(PetscOptionsString("-file", "Output of gramarye solve", "GramModelRead", path, path, sizeof path,
                               NULL));
  PetscOptionsEnd();
  PetscCall(GramH5OpenRead(comm, path, "model.file", &file));
  PetscCall(GramH5GetShape(file, "x", "model.file", PETSC_FALSE, &ndims, &model->n, &model->dim_file));
  PetscCall(GramH5GetShape(file, "coefficients", "model.file", PETSC_FALSE, &ndims, &n, &model->q));
  GramCheckInput(n == model->n && n > 0 && model->dim_file <= GRAM_MAX_DIM, comm,
                 "model.file: '%s' has %" PetscInt_FMT " points but %" PetscInt_FMT " coefficients", path,
                 model->n, n);
  PetscCall(ScalingRead(file, comm, model->dim_file, model->q, &model->scaling));
  PetscCall(KernelRead(file, comm, model->scaling.dim, &model->kernel));

  PetscCall(PetscLayoutCreateFromSizes(comm, PETSC_DECIDE, model->n, 1, &layout));
  PetscCall(PetscLayoutGetLocalSize(layout, &model->n_local));
  PetscCall(PetscLayoutGetRange(layout, &first, NULL));
  PetscCall(PetscLayoutDestroy(&layout));
  PetscCall(PetscMalloc1((size_t)model->n_local * (size_t)model->dim_file, &model->x_file));
  PetscCall(GramH5ReadRows(file, "x", "model.file", first, model->n_local, model->x_file));
  PetscCall(CoefficientsRead(file, first, model));
  PetscCall(TailRead(file, model));
  PetscCall(GramH5Exists(file, "run@converged", &known));
  if (known) {
    PetscCall(GramH5ReadAttribute(file, "run", "converged", &one, &converged));
    PetscCall(GramH5ReadString(file, "run", "reason", reason, sizeof reason));
  }
  if (converged == 0 && strcmp(reason, GRAM_REASON_VARIANCE) != 0)
    PetscCall(PetscFPrintf(comm, stderr,
                           "gramarye: warning: model.file: the solve of '%s' did not converge\n", path));
  PetscCall(GramH5Close(&file));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramModelClear(GramModel *model)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(model->x_file));
  PetscCall(PetscFree(model->coefficients));
  PetscCall(PetscFree(model->tail));
  PetscCall(GramScalingClear(&model->scaling));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* a small array that every rank holds, written by the first */
static PetscErrorCode SmallWrite(GramH5 file, MPI_Comm comm, const char *name, PetscInt n, const PetscReal *x)
{
  PetscMPIInt rank;

  PetscFunctionBegin;
  PetscCallMPI(MPI_Comm_rank(comm, &rank));
  PetscCall(GramH5WriteRows(file, name, 1, rank ? 0 : n, 1, x));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CoefficientsWrite(GramH5 file, const GramModel *m)
{
  const PetscInt dim = m->scaling.dim, numbers = 1 + dim;
  PetscReal     *values, *gradients;

  PetscFunctionBegin;
  if (!m->kernel.gradients) {
    PetscCall(GramH5WriteRows(file, "coefficients", 2, m->n_local, m->q, m->coefficients));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(PetscMalloc2(m->n_local, &values, GramAt(m->n_local, dim, 0), &gradients));
  for (PetscInt i = 0; i < m->n_local; i++) {
    values[i] = m->coefficients[GramAt(i, numbers, 0)];
    PetscCall(PetscArraycpy(gradients + GramAt(i, dim, 0), m->coefficients + GramAt(i, numbers, 1), dim));
  }
  PetscCall(GramH5WriteRows(file, "coefficients", 2, m->n_local, 1, values));
  PetscCall(GramH5WriteRows(file, "gradient_coefficients", 2, m->n_local, dim, gradients));
  PetscCall(PetscFree2(values, gradients));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKernelWrite(GramH5 file, const GramKernel *k)
{
  const PetscReal degree = (PetscReal)k->tail_degree;

  PetscFunctionBegin;
  PetscCall(GramH5WriteString(file, "kernel", "type", k->type));
  PetscCall(GramH5WriteReals(file, "kernel", "nu", 0, &k->nu));
  PetscCall(GramH5WriteReals(file, "kernel", "beta", 0, &k->beta));
  PetscCall(GramH5WriteReals(file, "kernel", "length_scale", k->n_length_scale == 1 ? 0 : k->n_length_scale,
                             k->length_scale));
  PetscCall(GramH5WriteReals(file, "kernel", "amplitude", 0, &k->amplitude));
  PetscCall(GramH5WriteReals(file, "kernel", "ridge_alpha", 0, &k->alpha));
  PetscCall(GramH5WriteReals(file, "kernel", "ridge_alpha_gradient", 0, &k->alpha_gradient));
  PetscCall(GramH5WriteReals(file, "kernel", "tail_degree", 0, &degree));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramModelWrite(GramH5 file, const GramModel *m)
{
  const GramKernel  *k = &m->kernel;
  const GramScaling *s = &m->scaling;
  PetscMPIInt        rank;

  PetscFunctionBegin;
  PetscCall(GramH5WriteRows(file, "x", 2, m->n_local, m->dim_file, m->x_file));
  PetscCall(CoefficientsWrite(file, m));
  PetscCallMPI(MPI_Comm_rank(m->comm, &rank));
  PetscCall(GramH5WriteRows(file, "tail", 2, rank ? 0 : m->n_tail, m->q, m->tail));
  PetscCall(GramKernelWrite(file, k));
  PetscCall(GramH5WriteInt(file, "scaling", "sphere", s->sphere));
  PetscCall(SmallWrite(file, m->comm, "scaling/point_shift", s->dim, s->point_shift));
  PetscCall(SmallWrite(file, m->comm, "scaling/point_scale", s->dim, s->point_scale));
  PetscCall(SmallWrite(file, m->comm, "scaling/value_shift", s->q, s->value_shift));
  PetscCall(SmallWrite(file, m->comm, "scaling/value_scale", s->q, s->value_scale));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* name, and name_rms: root mean squares of the columns; rms over all */
static PetscErrorCode ResidualsWrite(GramH5 file, const GramModel *m, const char *name, PetscInt q,
                                     const PetscReal *e, PetscReal *rms)
{
  PetscReal *sum;
  char       dataset[32];

  PetscFunctionBegin;
  PetscCall(PetscCalloc1(q, &sum));
  for (PetscInt i = 0; i < m->n_local; i++) {
    for (PetscInt r = 0; r < q; r++) sum[r] += PetscSqr(e[GramAt(i, q, r)]);
  }
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sum, (PetscMPIInt)q, MPIU_REAL, MPI_SUM, m->comm));
  *rms = 0;
  for (PetscInt r = 0; r < q; r++) {
    *rms += sum[r] / ((PetscReal)m->n * (PetscReal)q);
    sum[r] = PetscSqrtReal(sum[r] / (PetscReal)m->n);
  }
  *rms = PetscSqrtReal(*rms);
  PetscCall(PetscSNPrintf(dataset, sizeof dataset, "%s_rms", name));
  PetscCall(GramH5WriteRows(file, name, q == 1 ? 1 : 2, m->n_local, q, e));
  PetscCall(SmallWrite(file, m->comm, dataset, q, sum));
  PetscCall(PetscFree(sum));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramLooWrite(GramH5 file, const GramModel *m, const GramLoo *loo, PetscReal *rms,
                            PetscReal *block_rms)
{
  PetscFunctionBegin;
  *block_rms = NAN;
  PetscCall(ResidualsWrite(file, m, "loo", m->q, loo->value, rms));
  if (loo->error)
    PetscCall(GramH5WriteRows(file, "loo_error", m->q == 1 ? 1 : 2, m->n_local, m->q, loo->error));
  if (loo->block) PetscCall(ResidualsWrite(file, m, "loo_block", 1, loo->block, block_rms));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPredictionCreate(GramH5 file, const GramTargets *t)
{
  const GramDataset *d = &t->rows;
  const PetscInt     q = d->scaling.q, dim = d->scaling.dim;

  PetscFunctionBegin;
  PetscCall(GramH5CreateRows(file, "target/x", 2, t->n, d->dim_file, 1));
  PetscCall(GramH5CreateRows(file, "target/mean", 2, t->n, q, 1));
  if (t->gradient) PetscCall(GramH5CreateRows(file, "target/gradient", q == 1 ? 2 : 3, t->n, dim, q));
  if (t->variance) PetscCall(GramH5CreateRows(file, "target/variance", q == 1 ? 1 : 2, t->n, q, 1));
  if (d->q) PetscCall(GramH5CreateRows(file, "target/values", 2, t->n, q, 1));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPredictionWrite(GramH5 file, const GramTargets *t, const PetscReal *mean,
                                   const PetscReal *gradient, const PetscReal *variance, PetscReal sums[])
{
  const GramDataset *d = &t->rows;
  const PetscInt     q = d->scaling.q;

  PetscFunctionBegin;
  PetscCall(GramH5WriteAt(file, "target/x", d->first, d->n_local, d->x_file));
  PetscCall(GramH5WriteAt(file, "target/mean", d->first, d->n_local, mean));
  if (gradient) PetscCall(GramH5WriteAt(file, "target/gradient", d->first, d->n_local, gradient));
  if (variance) PetscCall(GramH5WriteAt(file, "target/variance", d->first, d->n_local, variance));
  if (!d->q) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(GramH5WriteAt(file, "target/values", d->first, d->n_local, d->y));
  for (PetscInt i = 0; i < d->n_local; i++) {
    for (PetscInt r = 0; r < q; r++) {
      const PetscReal e = mean[GramAt(i, q, r)] - d->y[GramAt(i, q, r)];

      sums[r] += e * e;
      sums[q + r] += PetscAbsReal(e);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramPredictionErrors(GramH5 file, const GramTargets *t, PetscReal sums[], PetscReal *rmse,
                                    PetscReal *mae)
{
  const PetscInt q    = t->rows.scaling.q;
  MPI_Comm       comm = t->rows.comm;

  PetscFunctionBegin;
  *rmse = *mae = NAN;
  if (!t->rows.q) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCallMPI(MPI_Allreduce(MPI_IN_PLACE, sums, (PetscMPIInt)(2 * q), MPIU_REAL, MPI_SUM, comm));
  *rmse = *mae = 0;
  for (PetscInt r = 0; r < q; r++) {
    *rmse += sums[r] / ((PetscReal)t->n * (PetscReal)q);
    sums[r] = PetscSqrtReal(sums[r] / (PetscReal)t->n);
    sums[q + r] /= (PetscReal)t->n;
    *mae += sums[q + r] / (PetscReal)q;
  }
  *rmse = PetscSqrtReal(*rmse);
  PetscCall(SmallWrite(file, comm, "target/rmse", q, sums));
  PetscCall(SmallWrite(file, comm, "target/mae", q, sums + q));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramRunWrite(GramH5 file, MPI_Comm comm, const GramRun *run)
{
  const struct {
    const char *name, *text;
  } texts[] = {{"verb", run->verb},       {"version", run->version}, {"git", run->git},
               {"options", run->options}, {"backend", run->backend}, {"precision", run->precision},
               {"method", run->method},   {"reason", run->reason},   {"pc", run->pc}};
  const struct {
    const char *name;
    PetscReal   value;
  } numbers[] = {{"relative_residual", run->relative_residual}, {"backward_error", run->backward_error},
                 {"seconds_read", run->read_seconds},           {"seconds_setup", run->setup_seconds},
                 {"seconds_solve", run->solve_seconds},         {"seconds_predict", run->predict_seconds},
                 {"seconds_total", run->total_seconds},         {"pairs_per_second", run->pairs_per_second},
                 {"peak_memory_bytes", run->peak_memory_bytes}, {"skipped_fraction", run->skipped_fraction}};

  PetscFunctionBegin;
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(texts); i++) {
    if (texts[i].text) PetscCall(GramH5WriteString(file, "run", texts[i].name, texts[i].text));
  }
  PetscCall(GramH5WriteInt(file, "run", "ranks", run->ranks));
  PetscCall(GramH5WriteInt(file, "run", "iterations", run->iterations));
  PetscCall(GramH5WriteInt(file, "run", "converged", run->converged));
  PetscCall(GramH5WriteInt(file, "run", "exact_from", run->exact_from));
  if (run->pc) {
    PetscCall(GramH5WriteInt(file, "run", "pc_rank", run->pc_rank));
    PetscCall(GramH5WriteInt(file, "run", "pc_neighbors", run->pc_neighbors));
  }
  if (run->pc_alpha > 0) {
    PetscCall(GramH5WriteReals(file, "run", "pc_alpha", 0, &run->pc_alpha));
    PetscCall(GramH5WriteInt(file, "run", "numerical_rank", run->numerical_rank));
  }
  if (run->predicted_memory_bytes > 0)
    PetscCall(GramH5WriteReals(file, "run", "predicted_memory_bytes", 0, &run->predicted_memory_bytes));
  if (run->settled_memory_bytes > 0)
    PetscCall(GramH5WriteReals(file, "run", "settled_memory_bytes", 0, &run->settled_memory_bytes));
  if (run->variance_missed >= 0)
    PetscCall(GramH5WriteInt(file, "run", "variance_missed", run->variance_missed));
  if (!PetscIsNanReal(run->eigenvalue_min)) {
    PetscCall(GramH5WriteReals(file, "run", "eigenvalue_min", 0, &run->eigenvalue_min));
    PetscCall(GramH5WriteReals(file, "run", "eigenvalue_max", 0, &run->eigenvalue_max));
  }
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(numbers); i++) {
    PetscCall(GramH5WriteReals(file, "run", numbers[i].name, 0, &numbers[i].value));
  }
  if (run->n_history) PetscCall(SmallWrite(file, comm, "history/residual", run->n_history, run->history));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscLogDouble GramResultBytes(const GramModel *m, const GramTargets *t, const GramRun *run)
{
  const PetscInt q       = t->rows.scaling.q;
  PetscLogDouble numbers = (PetscLogDouble)run->n_history;

  if (m && m->loo) numbers += (PetscLogDouble)m->n * (2 * m->q + 1);
  if (m)
    numbers += (PetscLogDouble)m->n * (PetscLogDouble)(m->dim_file + GramKernelNumbers(&m->kernel) * m->q);
  numbers += (PetscLogDouble)t->n * (PetscLogDouble)(t->rows.dim_file + q + t->rows.q);
  if (t->gradient) numbers += (PetscLogDouble)t->n * (PetscLogDouble)(t->rows.scaling.dim * q);
  if (t->variance) numbers += (PetscLogDouble)t->n * (PetscLogDouble)q;
  return 8 * numbers;
}
