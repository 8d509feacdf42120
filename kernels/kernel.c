#define GRAM_REAL double
#include "kernel.h"

/* of a rational quadratic: beyond, it is a constant, or a Gaussian to within r^4 / (8 beta) */
#define BETA_LEAST 1e-6
#define BETA_MOST  1e6

const GramRadialInfo *GramRadialGetInfo(GramRadial type)
{
#define KERNEL_PROFILE(UPPER, Camel, ...) {__VA_ARGS__},
  static const GramRadialInfo profiles[] = {GRAM_RADIAL_LIST(KERNEL_PROFILE)};

  return profiles + type;
}

PetscReal GramKernelUnit(const GramKernel *k)
{
  const GramRadialInfo *profile = GramRadialGetInfo(k->radial);

  return profile->beta ? profile->unit / PetscSqrtReal(k->beta) : profile->unit;
}

void GramKernelJet(const GramKernel *k, PetscReal r2, PetscReal jet[3])
{
  const PetscReal unit2 = PetscSqr(GramKernelUnit(k));
  const GramJet   j     = RadialJet(k->radial, unit2 * r2, k->beta);

  jet[0] = j.phi;
  jet[1] = j.first * unit2;
  jet[2] = j.second * unit2 * unit2;
}

PetscErrorCode GramKernelNames(char names[], size_t size)
{
  PetscFunctionBegin;
  names[0] = '\0';
  for (int i = 0; i < GRAM_RADIAL_COUNT; i++) {
    const GramRadialInfo *profile = GramRadialGetInfo((GramRadial)i);

    if (profile->twonu > 1) continue; /* a matern kernel */
    if (i) PetscCall(PetscStrlcat(names, ", ", size));
    PetscCall(PetscStrlcat(names, profile->name, size));
    if (profile->twonu == 1) PetscCall(PetscStrlcat(names, ", matern, matern12 ... matern92", size));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* "matern12" ... "matern92", and "matern" with its nu, are one family: k has nu = 1/2, 3/2, ... */
static PetscErrorCode ParseMatern(const char *name, PetscReal nu, PetscInt *twonu)
{
  size_t    length;
  PetscBool matern;

  PetscFunctionBegin;
  *twonu = 0;
  PetscCall(PetscStrncmp(name, "matern", 6, &matern));
  PetscCall(PetscStrlen(name, &length));
  if (matern && length == 6) *twonu = (PetscInt)(2 * nu + 0.5);
  if (matern && length == 6 && (PetscReal)*twonu != 2 * nu) *twonu = 0;
  if (matern && length == 8 && name[7] == '2') *twonu = name[6] - '0';
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKernelSetType(GramKernel *kernel, const char *name, PetscReal nu, PetscBool *found)
{
  PetscInt twonu;

  PetscFunctionBegin;
  *found = PETSC_FALSE;
  PetscCall(ParseMatern(name, nu, &twonu));
  for (int i = 0; i < GRAM_RADIAL_COUNT && !*found; i++) {
    const GramRadialInfo *profile = GramRadialGetInfo((GramRadial)i);
    PetscBool             same    = PETSC_FALSE;

    if (twonu) same = (PetscBool)(profile->twonu == twonu);
    else PetscCall(PetscStrcmp(name, profile->name, &same));
    if (!same) continue;
    kernel->radial      = (GramRadial)i;
    kernel->nu          = twonu ? twonu / 2.0 : NAN;
    kernel->tail_degree = profile->order - 1;
    kernel->beta        = profile->beta ? 1 : NAN;
    PetscCall(PetscStrncpy(kernel->type, twonu ? "matern" : name, sizeof kernel->type));
    *found = PETSC_TRUE;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode LengthScaleFromOptions(MPI_Comm comm, PetscOptionItems *PetscOptionsObject,
                                             GramKernel *k)
{
  PetscInt n = GRAM_MAX_DIM;

  PetscFunctionBegin;
  k->length_scale[0] = 1;
  PetscCall(PetscOptionsRealArray("-length_scale", "Length scale: one number, or one per coordinate",
                                  "GramKernelSetFromOptions", k->length_scale, &n, NULL));
  k->n_length_scale = n ? n : 1;
  GramCheckInput(k->n_length_scale == 1 || k->n_length_scale == k->dim, comm,
                 "kernel.length_scale: %" PetscInt_FMT " numbers, but the points have %" PetscInt_FMT
                 " coordinates (give 1 or %" PetscInt_FMT ")",
                 k->n_length_scale, k->dim, k->dim);
  for (PetscInt c = k->n_length_scale; c < k->dim; c++) k->length_scale[c] = k->length_scale[0];
  for (PetscInt c = 0; c < k->dim; c++) {
    GramCheckInput(k->length_scale[c] > 0 && PetscIsNormalReal(k->length_scale[c]), comm,
                   "kernel.length_scale: %.6g is not > 0", (double)k->length_scale[c]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TypeFromOptions(MPI_Comm comm, PetscOptionItems *PetscOptionsObject, GramKernel *k)
{
  char      type[64] = "matern", names[256];
  PetscReal nu = 1.5, beta = 1;
  PetscBool found, matern;

  PetscFunctionBegin;
  PetscCall(GramKernelNames(names, sizeof names));
  PetscCall(PetscOptionsString("-type", names, "GramKernelSetType", type, type, sizeof type, NULL));
  PetscCall(PetscOptionsReal("-nu", "Smoothness of a matern kernel: 0.5, 1.5, 2.5, 3.5 or 4.5",
                             "GramKernelSetType", nu, &nu, NULL));
  PetscCall(PetscOptionsReal("-beta", "Exponent of rational_quadratic, (1 + r^2 / (2 beta))^-beta", NULL,
                             beta, &beta, NULL));
  PetscCall(GramKernelSetType(k, type, nu, &found));
  PetscCall(PetscStrcmp(type, "matern", &matern));
  GramCheckInput(found || !matern, comm, "kernel.nu: %.6g is none of 0.5, 1.5, 2.5, 3.5, 4.5", (double)nu);
  GramCheckInput(found, comm, "kernel.type: '%s' is none of %s", type, names);
  GramCheckInput(beta >= BETA_LEAST && beta <= BETA_MOST, comm, "kernel.beta: %.6g is not in %g ... %g",
                 (double)beta, BETA_LEAST, BETA_MOST);
  if (GramRadialGetInfo(k->radial)->beta) k->beta = beta;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKernelCheckDim(MPI_Comm comm, const char *key, const GramKernel *k)
{
  const PetscInt most = GramRadialGetInfo(k->radial)->dims;

  PetscFunctionBegin;
  GramCheckInput(!most || k->dim <= most, comm,
                 "%s: %s is positive definite for at most %" PetscInt_FMT
                 " coordinates, the points have %" PetscInt_FMT,
                 key, k->type, most, k->dim);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKernelSetFromOptions(MPI_Comm comm, PetscInt dim, GramKernel *k)
{
  PetscInt least; /* degree of the tail */

  PetscFunctionBegin;
  PetscCall(PetscMemzero(k, sizeof *k));
  k->dim       = dim;
  k->amplitude = 1;
  k->alpha     = 1e-6;

  PetscOptionsBegin(comm, "kernel_", "Kernel k(x, z) = amplitude^2 phi(|(x - z) / length_scale|)", NULL);
  PetscCall(TypeFromOptions(comm, PetscOptionsObject, k));
  PetscCall(GramKernelCheckDim(comm, "kernel.type", k));
  PetscCall(LengthScaleFromOptions(comm, PetscOptionsObject, k));
  PetscCall(PetscOptionsReal("-amplitude", "Amplitude s, units of the standardised values", NULL,
                             k->amplitude, &k->amplitude, NULL));
  PetscOptionsEnd();
  GramCheckInput(k->amplitude > 0 && PetscIsNormalReal(k->amplitude), comm,
                 "kernel.amplitude: %.6g is not > 0", (double)k->amplitude);

  PetscOptionsBegin(comm, "ridge_", "Ridge on the diagonal", NULL);
  PetscCall(PetscOptionsReal("-alpha", "Added to the diagonal of K, units of y^2", NULL, k->alpha, &k->alpha,
                             NULL));
  k->alpha_gradient = k->alpha;
  PetscCall(PetscOptionsReal("-alpha_gradient", "The same for gradient rows", NULL, k->alpha_gradient,
                             &k->alpha_gradient, NULL));
  PetscOptionsEnd();
  GramCheckInput(k->alpha >= 0 && !PetscIsInfReal(k->alpha), comm, "ridge.alpha: %.6g is not >= 0",
                 (double)k->alpha);
  GramCheckInput(k->alpha_gradient >= 0 && !PetscIsInfReal(k->alpha_gradient), comm,
                 "ridge.alpha_gradient: %.6g is not >= 0", (double)k->alpha_gradient);

  least          = GramRadialGetInfo(k->radial)->order - 1;
  k->tail_degree = least;
  PetscOptionsBegin(comm, "tail_", "Polynomial tail", NULL);
  PetscCall(PetscOptionsInt("-degree", "Degree of the polynomial tail, -1 for none", NULL, k->tail_degree,
                            &k->tail_degree, NULL));
  PetscOptionsEnd();
  GramCheckInput(k->tail_degree >= least, comm,
                 "tail.degree: %" PetscInt_FMT " is below %" PetscInt_FMT ", which kernel.type %s needs",
                 k->tail_degree, least, k->type);
  GramCheckInput(k->tail_degree >= -1 && k->tail_degree <= 2, comm,
                 "tail.degree: %" PetscInt_FMT " is not in -1 ... 2", k->tail_degree);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKernelTakeGradients(MPI_Comm comm, GramKernel *k)
{
  PetscFunctionBegin;
  GramCheckInput(GramRadialGetInfo(k->radial)->differentiable, comm,
                 "kernel.type: %s%s is not twice differentiable at r = 0, and data.gradients are given",
                 k->type, PetscIsNanReal(k->nu) ? "" : " with nu 0.5");
  k->gradients = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramKernelView(const GramKernel *k, char line[], size_t size)
{
  char nu[32] = "", beta[32] = "", scale[64] = "";

  PetscFunctionBegin;
  if (!PetscIsNanReal(k->nu)) PetscCall(PetscSNPrintf(nu, sizeof nu, " nu %.6g", (double)k->nu));
  if (!PetscIsNanReal(k->beta)) PetscCall(PetscSNPrintf(beta, sizeof beta, " beta %.6g", (double)k->beta));
  if (k->n_length_scale == 1)
    PetscCall(PetscSNPrintf(scale, sizeof scale, "%.6g", (double)k->length_scale[0]));
  else
    PetscCall(PetscSNPrintf(scale, sizeof scale, "%.6g ... %.6g (%" PetscInt_FMT ")",
                            (double)k->length_scale[0], (double)k->length_scale[k->dim - 1],
                            k->n_length_scale));
  PetscCall(PetscSNPrintf(line, size, "%s%s%s, length scale %s, amplitude %.6g, alpha %.6g", k->type, nu,
                          beta, scale, (double)k->amplitude, (double)k->alpha));
  PetscFunctionReturn(PETSC_SUCCESS);
}
