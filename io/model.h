/* Fitted models and predictions as HDF5 files: what solve writes, predict reads, and h5py users see. */
#pragma once

#include "dataset.h"
#include "gram.h"
#include "h5.h"
#include "kernel.h"

/*
  A fit: mean(t) = value_shift + value_scale * (sum_j coefficients[j] k(t', x'_j)
                                                 + sum_j gradient_coefficients[j] . grad_{x'_j} k(t', x'_j)
                                                 + tail . (1, t'_1, ..., t'_1 t'_1, ...)),   primes as in GramScaling.
*/
typedef struct {
  MPI_Comm    comm;
  GramKernel  kernel;
  GramScaling scaling;
  PetscInt    n, n_local, dim_file, q;
  PetscReal  *x_file; /* [n_local][dim_file] points as in the data file, input order */
  PetscReal
      *coefficients; /* [n_local][numbers][q] input order: of values, and with gradients of these (q = 1) */
  PetscBool  loo;    /* leave-one-out residuals go with it */
  PetscInt   n_tail;
  PetscReal *tail; /* [n_tail][q] on every rank */
} GramModel;

/* reason of a run that is not converged for its variances alone: its model is good. */
#define GRAM_REASON_VARIANCE "variance"

/* How a result came about: group "run". */
typedef struct {
  const char    *verb, *version, *git, *options, *backend, *precision, *method, *reason, *pc;
  PetscInt       ranks, iterations;
  PetscBool      converged;
  PetscBool      lu; /* a numerically singular matrix was factored */
  PetscReal      relative_residual, backward_error;
  PetscInt       n_history;
  PetscReal     *history; /* [n_history] on every rank */
  PetscLogDouble read_seconds, setup_seconds, solve_seconds, predict_seconds, total_seconds;
  PetscLogDouble pairs_per_second, peak_memory_bytes; /* summed over ranks */
  PetscLogDouble predicted_memory_bytes;              /* before the solve; 0: not written */
  PetscLogDouble settled_memory_bytes;                /* once lrv had chosen; 0: not written */
  PetscReal      skipped_fraction;                    /* of the pairs, by -product_tolerance */
  PetscInt       exact_from;            /* iterations before double and all tiles took over, -1: never */
  PetscInt       pc_rank, pc_neighbors; /* of pc lrv */
  PetscReal      pc_alpha;              /* in its M; 0: not written */
  PetscInt       numerical_rank;        /* of K, where lrv has met it; else -1 */
  PetscReal      eigenvalue_min, eigenvalue_max; /* of M^-1 A; NaN: not written */
  PetscInt       variance_missed; /* variances that are not good to their tolerance; -1: not written */
} GramRun;

/**
  GramOutputFromOptions - Read -output_file (result.h5) and -output_overwrite (true), and see before any work that
  a result can be put there.

  Collective on comm.

  @param[out] path [size] where to write

  Errors: GRAM_ERR_INPUT when the folder is missing, the file exists and must not be overwritten, or it is one of
  the files the run reads (-data_file, -target_file, -model_file); GRAM_ERR_RESOURCE when the folder is not writable.
**/
PetscErrorCode GramOutputFromOptions(MPI_Comm comm, char path[], size_t size);

/**
  GramModelRead - Read the model named by -model_file, its rows spread evenly over the ranks.

  Collective on comm. Free with GramModelClear(). Errors: GRAM_ERR_INPUT, also for a file that is no model.
**/
PetscErrorCode GramModelRead(MPI_Comm comm, GramModel *model);
PetscErrorCode GramModelClear(GramModel *model);

/* Group kernel. Collective. */
PetscErrorCode GramKernelWrite(GramH5 file, const GramKernel *kernel);

/* Datasets x, coefficients, gradient_coefficients, tail and groups kernel, scaling. Collective. */
PetscErrorCode GramModelWrite(GramH5 file, const GramModel *model);

/**
  GramPredictionCreate - Datasets for all targets: target/x, target/mean, and where they are asked for or known target/gradient,
  target/variance, target/values.

  Collective. GramPredictionWrite() fills in the rows of the chunk at hand; GramPredictionErrors() adds target/rmse and
  target/mae in the end.

  @param[in]     mean     [n_local][q] in original units, rows as in targets
  @param[in]     gradient [n_local][dim][q] likewise, or NULL
  @param[in]     variance [n_local][q] likewise, or NULL
  @param[in,out] sums     [2 q] zero before the first chunk: squares and magnitudes of this rank's errors
  @param[out]    rmse, mae  over all columns; NaN without values
**/
PetscErrorCode GramPredictionCreate(GramH5 file, const GramTargets *targets);
PetscErrorCode GramPredictionWrite(GramH5 file, const GramTargets *targets, const PetscReal *mean,
                                   const PetscReal *gradient, const PetscReal *variance, PetscReal sums[]);
PetscErrorCode GramPredictionErrors(GramH5 file, const GramTargets *targets, PetscReal sums[],
                                    PetscReal *rmse, PetscReal *mae);

/* Leave-one-out residuals in original units, rows in input order; error and block may be NULL. */
typedef struct {
  PetscReal *value, *error; /* [n_local][q] */
  PetscReal *block;         /* [n_local] */
} GramLoo;

/* Datasets loo and, where there is one, loo_error and loo_block, (N,) for one column; loo_rms, loo_block_rms with a number a
   column; rms over all columns. Collective. */
PetscErrorCode GramLooWrite(GramH5 file, const GramModel *model, const GramLoo *loo, PetscReal *rms,
                            PetscReal *block_rms);

/* About the bytes of a result file: a model of n points (0: none) with targets. Not collective. */
PetscLogDouble GramResultBytes(const GramModel *model, const GramTargets *targets, const GramRun *run);

/* Group run and dataset history/residual. Collective. */
PetscErrorCode GramRunWrite(GramH5 file, MPI_Comm comm, const GramRun *run);
