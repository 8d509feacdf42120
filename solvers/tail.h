/* Polynomial tails: kernels that are positive definite only against polynomials, and the smaller system that is. */
#pragma once

#include <petscmat.h>

#include "gram_mat.h"
#include "polynomial.h"

/*
      [ A   P ] [ a ]   [ y ]
      [ P'  0 ] [ c ] = [ 0 ]        A = K + alpha I, P [N][m] the monomials of degree up to 0, 1 or 2 at the points

  m special rows S, whose P_S is well conditioned, are eliminated: with Pi = P P_S^-1, the Lagrange polynomials of S,

      a = Z mu:  a_S = -Pi' mu_rest    so that P'a = 0 to rounding, whatever mu
      B mu = Z' y,  B = Z' A Z         symmetric and positive definite
      c = P_S^-1 (y - A a)_S           so that the rows S of the system hold exactly

  and the residual of the others is that of B. B is again a kernel plus alpha I, evaluated entry by entry:

      kappa_ij = k_ij - h_i . Pi_j - Pi_i . h_j,    h_i = k(x_i, S) - (K_SS + alpha I) Pi_i / 2

  which is what preconditioners look at. B has all N rows, laid out as A: those of S are multiples of the identity, and
  zero in right-hand sides and solutions. Inside, monomials are of coordinates about the centre of the points' box, divided
  by half its width; c is of plain coordinates.

  With gradients P has the gradients of the monomials in the rows of the gradients, and S may be any of all these rows.

  kappa loses digits where points are closer than some 1e-4 of the box: entries of size 1 cancel.

  Source: kappa, H. Wendland, Scattered Data Approximation, Cambridge 2005, section 10.3; the elimination and its use for
  large systems, R. Beatson, W. Light, S. Billings, SIAM J. Sci. Comput. 22 (2001) 1717-1740.
*/
typedef struct _p_GramTail *GramTail;

/**
  GramTailCreate - Choose the special rows, for the tail_degree of A's kernel.

  Collective.

  @param[in]  A    from GramMatCreate(); borrowed
  @param[out] tail free with GramTailDestroy(), after the Mats made of it

  S is chosen by orthogonalising the rows of P, the longest of what is left first, the lowest row among equals: the same
  on any number of ranks. Cost: N m^2 operations a rank. Memory: 2 N m numbers a rank, N the rows of A.

  Errors: GRAM_ERR_INPUT where the points do not determine the polynomials: fewer than m, or on a line, a plane, a quadric.
**/
PetscErrorCode GramTailCreate(Mat A, GramTail *tail);
PetscErrorCode GramTailDestroy(GramTail *tail);

/**
  GramTailReduce - B = Z' A Z as a Mat, for an A of the same points and kernel, of any precision.

  Collective. B supports MatMult(), MatMatMult() with a MATDENSE, MatGetDiagonal(), MatCreateVecs() and what gram_mat.h
  asks of a Mat made of one; marked SPD. A and tail are borrowed: destroy B before them.

  Cost of a product: that of A, 4 N m operations, and two allreduces of m numbers a column.
**/
PetscErrorCode GramTailReduce(GramTail tail, Mat A, Mat *B);

/* S: m rows of A, the same on all ranks, owned by tail. Not collective. */
PetscErrorCode GramTailGetSpecial(GramTail tail, PetscInt *m, const PetscInt **rows);

/* The rows S of Y = 0. Collective. */
PetscErrorCode GramTailZeroSpecial(GramTail tail, Mat Y);

/* Y = Z' Y, in place: N x q MATDENSE laid out as A. Collective. */
PetscErrorCode GramTailProject(GramTail tail, Mat Y);

/* X = Z X, in place. Collective. */
PetscErrorCode GramTailExpand(GramTail tail, Mat X);

/**
  GramTailTargets - kappa of points against targets t, and of targets against themselves.

  Collective. h_t = k(t, S) - Pi(t) (K_SS + alpha I) / 2, Pi(t) the Lagrange polynomials of S at t.

  @param[in]     x     [q][dim] the targets, the same on all ranks
  @param[in,out] G     N x q: in k(X, t), out kappa(X, t), zero in S: Z' (k(X, t) - A w), w = Pi(t) in S and 0 elsewhere
  @param[in,out] prior [q] in k(t, t), out kappa(t, t)
  @param[in,out] size  [q] has the magnitudes of what is added to prior added
**/
PetscErrorCode GramTailTargets(GramTail tail, const PetscReal x[], Mat G, PetscReal prior[],
                               PetscReal size[]);

/**
  GramTailSolve - c = P_S^-1 R_S, and R -= P c; norms of P'a beside them.

  Collective.

  @param[in,out] R  N x q: in Y - A X, out the residual of the system's upper rows, zero in S
  @param[in]     X  N x q: coefficients a
  @param[out]    c  [m][q] coefficients of the monomials of plain coordinates, the same on all ranks
  @param[out]    moments [q] ||P'a||_2, P of centred and scaled coordinates
**/
PetscErrorCode GramTailSolve(GramTail tail, Mat R, Mat X, PetscReal c[], PetscReal moments[]);
