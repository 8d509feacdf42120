/* The covariance k(x, z) = s^2 phi(r) with its ridge: parameters, options and checks. */
#pragma once

#include "gram.h"
#include "radial.h"

#if defined(__cplusplus)
extern "C" {
#endif

/*
  k(x, z) = amplitude^2 phi(r),  r^2 = sum_c ((x_c - z_c) / length_scale[c])^2

  A plain struct: it is copied to devices and written to files.
*/
typedef struct {
  char       type[32];                   /* as the user named it: gaussian, matern, cubic ... */
  PetscReal  nu;                         /* smoothness of a matern kernel, NaN for the others */
  PetscReal  beta;                       /* exponent of a rational_quadratic kernel, NaN for the others */
  GramRadial radial;                     /* phi, chosen by type and nu */
  PetscInt   dim;                        /* coordinates of a point */
  PetscReal  length_scale[GRAM_MAX_DIM]; /* ell, units of the standardised coordinates, > 0 */
  PetscInt   n_length_scale;             /* 1: one for all coordinates; dim: one each (ARD) */
  PetscReal  amplitude;                  /* s, units of the standardised values, > 0 */
  PetscReal  alpha;                      /* added to the diagonal of K, >= 0, not multiplied by s^2 */
  PetscReal  alpha_gradient;             /* the same for gradient rows */
  PetscInt   tail_degree;                /* polynomial tail: -1 none, at least the order of phi less 1 */
  PetscBool  gradients;                  /* points carry a value and a gradient */
} GramKernel;

/* Numbers that a point carries: 1, with gradients 1 + dim. */
static inline PetscInt GramKernelNumbers(const GramKernel *kernel)
{
  return kernel->gradients ? 1 + kernel->dim : 1;
}

/* phi and its derivatives at points that differ by d with |d|^2 = r2, coordinates divided by the length scale:
   jet[0] = phi, d phi / d x_c = jet[1] d_c, d2 phi / d x_c d z_e = -(jet[1] [c = e] + jet[2] d_c d_e). Not collective. */
void GramKernelJet(const GramKernel *kernel, PetscReal r2, PetscReal jet[3]);

/* What GRAM_RADIAL_LIST says of a profile, in the order of its columns. Not collective. */
typedef struct {
  const char *name;
  PetscBool   beta;
  PetscInt    twonu, powers, fma, order;
  PetscReal   unit;
  PetscBool   differentiable;
  PetscReal   support;
  PetscInt    dims;
} GramRadialInfo;
const GramRadialInfo *GramRadialGetInfo(GramRadial type);

/* c of radial.h: profiles are evaluated at (c r)^2. Not collective. */
PetscReal GramKernelUnit(const GramKernel *kernel);

/**
  GramKernelSetFromOptions - Read -kernel_type, -kernel_nu, -kernel_beta, -kernel_length_scale, -kernel_amplitude,
  -ridge_alpha, -ridge_alpha_gradient and -tail_degree.

  Collective on comm.

  @param[in]  comm   all ranks that will use the kernel
  @param[in]  dim    coordinates of a point, 1 .. GRAM_MAX_DIM; length_scale is one number or dim numbers
  @param[out] kernel filled, defaults: matern 3/2, beta 1, length_scale 1, amplitude 1, alpha 1e-6

  Errors: GRAM_ERR_INPUT naming the key, its value and the limit.
**/
PetscErrorCode GramKernelSetFromOptions(MPI_Comm comm, PetscInt dim, GramKernel *kernel);

/* Points carry gradients from here on; GRAM_ERR_INPUT for a kernel that is not differentiable at r = 0, where there is
   no such system. Collective on comm. */
PetscErrorCode GramKernelTakeGradients(MPI_Comm comm, GramKernel *kernel);

/**
  GramKernelSetType - Choose phi by name: a value of -kernel_type; nu counts for "matern" only.

  Not collective. Sets type, nu, radial, beta (1, or NaN) and the least tail_degree it needs; returns found = PETSC_FALSE
  and leaves kernel alone for an unknown
  name or a nu that is not 1/2, 3/2, ... 9/2.
**/
PetscErrorCode GramKernelSetType(GramKernel *kernel, const char *name, PetscReal nu, PetscBool *found);

/* Refuse points of more coordinates than phi is positive definite for: "KEY: wendland2 is ...". Collective on comm.
   GramKernelSetFromOptions() has done it. */
PetscErrorCode GramKernelCheckDim(MPI_Comm comm, const char *key, const GramKernel *kernel);

/* The values of -kernel_type: "gaussian, exponential, matern, matern12 ... matern92, ...". Not collective. */
PetscErrorCode GramKernelNames(char names[], size_t size);

/**
  GramKernelView - One line: "matern nu 2.5, length scale 0.1, amplitude 1, alpha 1e-04".

  Not collective.
**/
PetscErrorCode GramKernelView(const GramKernel *kernel, char line[], size_t size);

#if defined(__cplusplus)
}
#endif
