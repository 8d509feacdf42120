/* Point-wise gradient descent: quadrature nodes as charges that repel each other in a neutralising background. */
#pragma once

#include "background.h"
#include "mean.h"
#include "solve.h"

/* Where a descent is, for another run to go on from. */
typedef struct {
  PetscReal *x;         /* [n][dim] nodes, the same on all ranks */
  PetscInt   sweeps;    /* done so far */
  PetscReal  step;      /* theta, or gamma_0 of the published method: as it is now */
  PetscReal *history;   /* [sweeps][GRAM_SWEEP_HISTORY], on all ranks */
  PetscInt   allocated; /* sweeps that history has room for */
  PetscBool  converged, stopped;
} GramSweepState;

/* Of a sweep: the largest gradient of the energy before it, in the units of x; the energy before it (of the published
   method: after it); the rms of natural moves in spacings. */
enum { GRAM_SWEEP_GRADIENT, GRAM_SWEEP_ENERGY, GRAM_SWEEP_MOVE, GRAM_SWEEP_HISTORY };

/* How a caller takes part: as in GramSolveControl, after each sweep. */
typedef struct {
  PetscErrorCode (*request)(void *ctx, GramRequest *request);
  PetscErrorCode (*save)(void *ctx, const GramSweepState *state);
  void *ctx;
} GramSweepControl;

/* A plain struct. */
typedef struct {
  PetscInt  dim, n;
  PetscReal lower[GRAM_MAX_DIM], upper[GRAM_MAX_DIM]; /* [dim] nodes stay in this box; 0 behind */
  PetscReal stretch[GRAM_MAX_DIM]; /* [dim] distances are those of x_k / stretch_k, of product 1; 0 for 1 */
  PetscInt  blocks; /* of nodes that move together, one block after the other: 1 all at once, n one by one */
  PetscBool adapt;  /* theta is halved when moves stay long */
  PetscReal gap;    /* in spacings h = (vol / n)^(1/d): the background reaches so far beyond the box */
  PetscReal
      tolerance; /* of the rms natural move in spacings; of the published method: of the largest gradient */
  PetscInt         max_sweeps;
  PetscInt         n_samples; /* 0: the background is the box */
  const PetscReal *samples;   /* [n_samples][dim], the same on all ranks, */
  const PetscReal *charges;   /* [n_samples], of sum 1: it is a cloud of these */
} GramSweep;

/**
  GramPwgd - All nodes, or block after block, follow the net force by the natural step until they hardly move.

  Collective on comm; state is the same on all ranks, bit for bit, and does not depend on how many there are (backends cpu
  and ref, on the same kind of processor).

      F_i = sum_(j != i) (x_i - x_j) / |x_i - x_j|^d - n b(x_i)          b: the background's field, of unit charge
      s_i = theta 2 / (|S| n rho(x_i)) F_i                              rho: the background's density
      components of s_i that push out of an active bound are dropped; |s_i| is cut at a quarter of the nearest distance;
      x_i = clamp(x_i + s_i)

  The energy

      E = 1/n^2 sum_(i != j) g(x_i - x_j) - 2/n sum_i V(x_i),      dE/dx_i = -2/n^2 F_i

  (all in coordinates x_k / stretch_k) is the squared discrepancy, with the fundamental solution g as kernel, of the nodes to the background, but for constants.
  Each mode of the nodes' lattice has a curvature between 0 and that of the plasma, |S| n rho: with theta < 1 all nodes can
  move at once. Stops when the rms of |s_i| / theta is below tolerance spacings. A softened cloud of samples stands for an
  empirical measure, its softening the larger of their own spacing and half a spacing of the nodes.

  @param[in]     control NULL, or who may have it saved or stopped
  @param[in,out] state   in: x, sweeps, step and the history so far; x [n][dim] stays the caller's, history is grown with
                         PetscMalloc1() as needed

  Cost of a sweep: n^2 pairs over all ranks, and dim + 3 numbers of each node gathered.
  Memory: (4 dim + 3) n numbers on each rank.

  Source: K. Tanaka, arXiv 2102.10887, for the energy; M. Graef, D. Potts, G. Steidl, Quadrature errors, discrepancies, and
  their relations to halftoning on the torus and the sphere, SIAM J. Sci. Comput. 34 (2012), for a functional of this kind. The
  matched background, the step and the cut are this program's own: README says how they were found.
**/
PetscErrorCode GramPwgd(MPI_Comm comm, GramBackend backend, const GramSweep *sweep,
                        const GramSweepControl *control, GramSweepState *state);

/* The published method: its energies, regulariser and step rule. */
typedef struct {
  PetscBool
            gaussian; /* pairs with the kernel itself, which is the descent on the worst-case error (M2), and no barrier */
  PetscReal barrier_power; /* p of n^-p */
  PetscReal barrier_margin;
} GramPaper;

/**
  GramPwgdPaper - The published method, node by node in order, each seeing the moves before it.

  Collective on comm; the first rank computes. sweep: dim, n, box, tolerance, max_sweeps; state->step is gamma_0.

      g = 2/n^2 sum_(j != i) grad G(x_i - x_j) - 2/n grad z(x_i) + n^-p grad R(x_i)
      x_i = x_i - gamma g, gamma = min(gamma_0, what keeps x_i in the box, in every coordinate)

  with G(x) = -4 log |x| (d = 2), 2 Gamma(d/2 - 1) |x|^(2 - d) (d > 2), or the kernel; z the mean of the Gaussian kernel over
  the box by Lebesgue measure; on the box widened by the margin R = -sum_k log((x_k - l_k)(u_k - x_k)) (d = 2),
  sum_k 1/(x_k - l_k) + 1/(u_k - x_k) (d > 2). Stops when the largest |g| that a sweep met is below tolerance. A node that the step
  rule puts on a wall, with g pointing outwards, stays there for good: that is the method.

  @param[in] kernel, mean gaussian of one length scale, and its mean over the box

  Source: arXiv 2102.10887, sections 4 and 5, with the constants of its program.
**/
PetscErrorCode GramPwgdPaper(MPI_Comm comm, const GramKernel *kernel, GramMean mean, const GramSweep *sweep,
                             const GramPaper *paper, const GramSweepControl *control, GramSweepState *state);
