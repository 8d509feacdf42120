/* What the verbs nodes and weights share: the measure, the weights of nodes, and their file. */
#pragma once

#include "h5.h"
#include "model.h"
#include "quadrature.h"

/* The probability measure that is integrated against: -nodes_measure, -nodes_lower, -nodes_upper, -nodes_samples. */
typedef struct {
  PetscInt  dim;
  PetscReal lower[GRAM_MAX_DIM],
      upper[GRAM_MAX_DIM]; /* [dim] the box; of samples what holds them unless given; 0 behind */
  PetscInt    n_samples;   /* 0: uniform on the box */
  PetscReal  *x, *charge;  /* [n_samples][dim], [n_samples] of sum 1, on every rank */
  GramPoints  samples;     /* the same along the curve */
  PetscReal  *weights;     /* [n_local] on the curve */
  GramBackend exact;       /* means are evaluated in double, whatever products are */
} GramMeasure;

/* Collective. dim: coordinates of the nodes; block: of GramPointsCreate(). Errors: GRAM_ERR_INPUT naming key, dataset, row. Free with GramMeasureClear(). */
PetscErrorCode GramMeasureFromOptions(MPI_Comm comm, PetscInt dim, PetscInt block, GramMeasure *measure);
PetscErrorCode GramMeasureClear(GramMeasure *measure);

/* Group measure: attributes type, lower, upper. Collective. */
PetscErrorCode GramMeasureWrite(GramH5 file, const GramMeasure *measure);

/* -weights_method, -weights_sum_to_one, and the ridge: -ridge_alpha unless given is 0 for nodes that are solved for in
   extended precision, of a measure of samples 1e-12 amplitude^2. Collective. */
typedef struct {
  GramWeightsMethod method;
  PetscBool         sum_to_one;
  PetscBool         automatic; /* the ridge was not given: it may be raised to what the factor needs */
} GramRuleOptions;
PetscErrorCode GramRuleFromOptions(MPI_Comm comm, PetscInt n, PetscBool sampled, GramKernel *kernel,
                                   GramRuleOptions *options);

/* Refuses what cannot fit before any work; says the estimate. sweep_bytes: what a rank has beside. Collective. */
PetscErrorCode GramRuleEstimate(MPI_Comm comm, GramBackend backend, const GramKernel *kernel,
                                const GramRuleOptions *options, PetscInt n, PetscLogDouble sweep_bytes,
                                GramRun *run);

/* The mean of kernel over the measure, by a backend like that one in double. Collective; free it before measure. */
PetscErrorCode GramMeasureMean(MPI_Comm comm, GramMeasure *measure, const GramKernel *kernel,
                               GramBackend backend, GramMean *mean);

/* x, weights in input order and the attributes wce_squared, wce_squared_equal, wce_squared_error, weights_sum, weights_least,
   weights_negative; group kernel. Collective. w [n_local] on the curve of X. */
PetscErrorCode GramRuleWrite(GramH5 file, GramPoints X, PetscInt n_local, const PetscReal *x,
                             const PetscReal *w, const GramKernel *kernel, const GramRule *rule);

/* About the bytes of that. Not collective. */
PetscLogDouble GramRuleBytes(PetscInt n, PetscInt dim, PetscInt n_history);

/* The lines of the summary; on standard error what was missed. Collective. */
PetscErrorCode GramRuleSay(MPI_Comm comm, const GramRule *rule);
