/* Solve (K + alpha I) a = y for several right-hand sides, and certify the answer. */
#pragma once

#include <petscmat.h>

#include "gram_mat.h"
#include "lrv.h"
#include "tail.h"

/* Where an iterative solve is, for another run to go on from; on any number of ranks, once rows are where they are there. */
typedef struct {
  Mat           X;  /* N x q MATDENSE, rows laid out as A: the solution so far, columns as scaled inside */
  Mat           P;  /* N x q: last directions of cg (pcg.h) */
  PetscReal    *rz; /* [q] r' M^-1 r before the step along them; 0: there is none */
  PetscInt     *iterations; /* [q] that the column has taken */
  PetscInt      total;      /* GramReport.iterations so far */
  PetscInt      n_history;
  PetscReal    *history; /* of the column with the most, as in GramReport */
  GramLRVGrowth growth;  /* of pc lrv */
} GramSolveState;

typedef enum { GRAM_GO_ON, GRAM_SAVE, GRAM_STOP } GramRequest;

/* How a caller takes part in a solve. Functions are collective; request is called after each iteration, all ranks
   get the same answer; save when the answer was not GRAM_GO_ON, as soon as the state is one to go on from. */
typedef struct {
  PetscErrorCode (*request)(void *ctx, GramRequest *request);
  PetscErrorCode (*save)(void *ctx, const GramSolveState *state);
  /* collective, NULL: after each set-up of pc lrv, with what it takes on all ranks, the largest of them so far */
  PetscErrorCode (*settled)(void *ctx, const GramLRVInfo *info, PetscLogDouble bytes);
  void                 *ctx;
  const GramSolveState *from; /* NULL: from the beginning */
  Mat guess; /* N x q MATDENSE: without from, a solution to begin with where it is better than 0; or NULL */
} GramSolveControl;

typedef enum { GRAM_SOLVE_AUTO, GRAM_SOLVE_ITERATIVE, GRAM_SOLVE_DIRECT } GramSolveMethod;

/*
  What a solve did. Residuals are those of the true operator: recomputed in double as b - A x from the answer that
  is handed out, never taken from a recursion.
*/
typedef struct {
  GramSolveMethod method; /* iterative or direct */
  PetscBool       converged;
  PetscBool       stopped;           /* by GRAM_STOP */
  char            reason[32];        /* see GramSolverSolve() */
  PetscInt        iterations;        /* products of all Krylov attempts over all columns; direct: 0 */
  PetscReal       relative_residual; /* largest over columns of ||b - A x||_2 / ||b||_2 */
  PetscReal       backward_error;    /* largest of ||b - A x||_2 / (||A||_1 ||x||_2 + ||b||_2) */
  PetscReal       norm_A;            /* ||A||_1 */
  PetscInt        exact_from;        /* iterations before A_true took over from A; -1: it did not have to */
  char            pc[32];            /* the preconditioner, "" for direct */
  PetscInt        pc_rank, pc_neighbors;     /* of lrv, as they were in the end */
  PetscReal       pc_alpha;                  /* what lrv has in place of alpha, see lrv.h */
  PetscBool       lu;                        /* the dense factor is not Cholesky's, see GramSolverSolve() */
  PetscInt        numerical_rank;            /* of K, where lrv has met it, else -1 */
  PetscReal  eigenvalue_min, eigenvalue_max; /* Ritz values of cg: M^-1 A has more extreme ones; else NaN */
  PetscInt   n_tail;                         /* monomials of the tail */
  PetscReal *tail;                           /* [n_tail][q] their coefficients, on all ranks */
  PetscInt   n_history;                      /* entries of history */
  PetscReal *history;                        /* see GramSolve(); on all ranks */
  PetscLogDouble setup_seconds, solve_seconds;
  PetscLogDouble pairs_per_second; /* M N products / seconds in products, of both operators; 0 without any */
} GramReport;

/**
  GramTrueOperatorCreate - The matrix that A stands for, in double and with every tile.

  Collective on A.

  @param[in]  X, kernel, backend what A was made of by GramMatCreate()
  @param[out] exact  the backend of A_true where it needs its own, else NULL; free it after A_true, with
                     GramBackendDestroy()
  @param[out] A_true A itself when backend is double and -product_tolerance 0; free with MatDestroy()
**/
PetscErrorCode GramTrueOperatorCreate(GramPoints X, const GramKernel *kernel, GramBackend backend, Mat A,
                                      GramBackend *exact, Mat *A_true);

/* A system made ready to be solved, several times if need be: its tail, its Krylov method with the preconditioner, its
   dense factor. */
typedef struct _p_GramSolver *GramSolver;

/**
  GramSolverCreate - Choose a method for A, as GramSolverSolve() says, and eliminate the tail.

  Collective on A. Reads all options; sets up neither preconditioner nor factor.

  @param[in]  A      from GramMatCreate() with a backend of any precision
  @param[in]  A_true from GramTrueOperatorCreate(), for residuals; not NULL; both borrowed
  @param[out] solver free with GramSolverDestroy(), before A and A_true

  Errors: those of GramSolverSolve(); of GramTailCreate().
**/
PetscErrorCode GramSolverCreate(Mat A, Mat A_true, GramSolver *solver);
PetscErrorCode GramSolverDestroy(GramSolver *solver);

/* tail: NULL without one; B: the true operator, or with a tail its reduced one; both owned by solver. Not collective. */
PetscErrorCode GramSolverGetReduced(GramSolver solver, GramTail *tail, Mat *B);
PetscErrorCode GramSolverGetMethod(GramSolver solver, GramSolveMethod *method);
PetscErrorCode GramSolverGetPC(GramSolver solver, PC *pc); /* of the Krylov method; owned by solver */

/* Columns that GramSolverInverse() is best given at once by a dense factor; else GRAM_PANEL. */
#define GRAM_INVERSE_COLUMNS 256

/* Called for each column at work of GramSolverInverse() when x has changed, with what is known of its error:
   g'B^-1 g - g'x = (b - B x)'B^-1 (b - B x) >= 0 is below bound, g'x itself is form. Set done. */
typedef PetscErrorCode (*GramInverseTest)(void *ctx, PetscInt column, PetscReal form, PetscReal bound,
                                          PetscBool *done);

/**
  GramSolverInverse - B X = G for a panel, to what test asks of the quadratic forms g'B^-1 g.

  Collective.

  @param[in]  G     N x q MATDENSE laid out as A; q at most GRAM_PANEL unless direct; zero in the special rows of a tail
  @param[in]  test  with ctx, the same on all ranks; NULL: to the rounding
  @param[out] X     N x q MATDENSE; its entries are overwritten
  @param[out] forms [q] 2 g'x - x'B x, from below: g'B^-1 g less the second order of the error of x
  @param[out] errors [q] bound of what is missing, 0 for a dense factor

  direct: by the factor. iterative: conjugate gradients with the preconditioner and the true operator, whatever
  -ksp_type, 5000 iterations a column and -ksp_max_it at most; the bound is r'M^-1 r over the least Ritz value of M^-1 B
  seen so far, in any column and in GramSolverSolve().
**/
PetscErrorCode GramSolverInverse(GramSolver solver, Mat G, GramInverseTest test, void *ctx, Mat X,
                                 PetscReal forms[], PetscReal errors[]);

/**
  GramSolverSolve - Solve A C = Y; where the kernel has a tail, [A, P; P' 0] [C; tail] = [Y; 0] (tail.h).

  Collective on A.

  @param[in]  Y      N x q MATDENSE, rows laid out as A; scaled by powers of 2 meanwhile
  @param[in]  control  NULL, or who may have an iterative solve saved or stopped, and what it goes on from
  @param[out] C      N x q MATDENSE; free with MatDestroy()
  @param[out] report free its tail and history with GramReportClear()

  Options: -solve_method (auto, iterative, direct); auto is direct up to GRAM_SOLVE_DIRECT_MAX points, with memory
  permitting, and iterative for -product_reproducible, which refuses direct: a factorisation depends on the ranks.
  -ksp_* and -pc_* configure the KSP; defaults: cg on the unpreconditioned norm, rtol 1e-8, 10 000 iterations,
  pc lrv (lrv.h), none for -product_reproducible, whose bits must not depend on the ranks. When the mean rate of the first
  15 or 30 iterations says that more than GRAM_SOLVE_SLOW will be needed, lrv grows, and the KSP goes on from where it is.

  iterative: cg takes up to GRAM_PANEL - 1 columns through shared products, each with its own scalars, other methods one column
  after the other; each column with at most -ksp_max_it iterations in all. When the recomputed residual misses the
  tolerance that the recursion claims, the KSP restarts from the current x while that still lowers the residual. A column that
  has not improved on its best residual for GRAM_SOLVE_PATIENCE iterations is stopped. Where lrv finds that M is as
  good as A, x = M^-1 b is the solution, for one product.

  When A is not A_true (mixed precision, -product_tolerance > 0) each column is refined: A d = r to 1e-2 or what A can
  do, x += d, r = b - A_true x. Should a step fail, or not halve r, the KSP goes on with A_true from where it is, and
  begins with it for the panels that follow. With mixed precision and lrv the rounding of float is first estimated, 4 u
  times the largest norm of 8 rows of K: where the least eigenvalue of M is below 3 times that, A_true does it all. single
  is different: A alone, one attempt, unable to reach small tolerances.

  A solve that goes on from a state takes the same iterations as one that was not stopped, for cg in double; with other
  methods and while refining the Krylov method begins anew from X.

  direct: Cholesky, LAPACK on one rank, ScaLAPACK on several, in place (8 N^2 bytes over all ranks), followed by
  iterative refinement. Where a pivot is not positive, since the matrix is numerically singular, LU takes its place, which
  solves such systems to a small residual too, for what the solution is worth; lu says so. The residual decides.

  With a tail all this is done to the reduced system B mu = Z' y, whose residual is that of the whole one, relative to ||y||;
  at the end the residual of the whole system is computed once more, from C and the tail. States hold mu.

  Cost of the certificate: one product with A_true of all columns, and of one more, for ||A||_1; with a tail two.

  report->history: ||r||_2 / ||b||_2 before and after each iteration of the column with the most, r by the recursion
  of the KSP, which refinement and restarts begin anew from the true residual; direct: 1 for x = 0, after the
  factorisation, after each refinement.

  report->reason, converged:  relative_tolerance, absolute_tolerance  the recomputed residual meets -ksp_rtol,
                              -ksp_atol
                              direct              a factorisation did
                              working_accuracy    ||r||_2 <= eps ||A||_1 ||x||_2: rounding of x alone does as much;
                              never where x = 0 would do better
  not converged:              max_iterations, stagnation, indefinite (p'Ap <= 0 or a Cholesky pivot <= 0,
                              where LU does not help either), breakdown, nan_or_inf, residual (the tolerance was claimed but not met)

  Not converged is not an error: C holds the best iterate (zero when there is none).
  Errors: GRAM_ERR_INPUT for an unknown method, and for a KSP that watches no norm; GRAM_ERR_RESOURCE when several
  ranks want a direct solve from a PETSc without ScaLAPACK.
**/
PetscErrorCode GramSolverSolve(GramSolver solver, Mat Y, const GramSolveControl *control, Mat *C,
                               GramReport *report);

/* The three of them, for one solve. */
PetscErrorCode GramSolve(Mat A, Mat A_true, Mat Y, const GramSolveControl *control, Mat *C,
                         GramReport *report);

/**
  GramSolveEstimate - The method GramSolverCreate() will take for n points and the memory it needs, with a prediction at m
  targets at once, and their variances; refused when a node, or a device that evaluates the products, has less.

  Collective. peak, line: of GramMemoryCheck(), with "direct" or "iterative"; pc: what of the peak is for a set-up of
  pc lrv that chooses all it may at first. peak and pc may be NULL.

  Errors: GRAM_ERR_RESOURCE with need and capacity; those of -solve_method.
**/
PetscErrorCode GramSolveEstimate(MPI_Comm comm, GramBackend backend, const GramKernel *kernel, PetscInt n,
                                 PetscInt m, PetscInt q, PetscBool variance, PetscLogDouble *peak,
                                 PetscLogDouble *pc, char line[], size_t size);

#define GRAM_SOLVE_DIRECT_MAX 8000
#define GRAM_SOLVE_PATIENCE   2000
#define GRAM_SOLVE_SLOW       45

PetscErrorCode GramReportClear(GramReport *report);

/* Refuses a prediction at m targets at once from n points that cannot fit, likewise. Collective. */
PetscErrorCode GramPredictEstimate(MPI_Comm comm, GramBackend backend, const GramKernel *kernel, PetscInt n,
                                   PetscInt m, PetscInt q);
