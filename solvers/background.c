#include <math.h>

#include "background.h"

/* a log term that its factor wipes out where it has a pole */
static PetscReal Times(PetscReal factor, PetscReal argument)
{
  return factor == 0 ? 0 : factor * PetscLogReal(argument);
}

/* a^2 atan(b / a) and a atan(b / a), even and odd in a, 0 at a = 0 */
static PetscReal Angle(PetscReal a, PetscReal b) { return a == 0 ? 0 : atan(b / a); }

/* Of the corner at (a, b) from x, without the signs: field[0] = -(b log(r^2) / 2 + a atan(b / a)) and likewise;
   V = -(a b log(r^2) - 3 a b + a^2 atan(b / a) + b^2 atan(a / b)) / 2 */
static void Corner2(PetscReal a, PetscReal b, PetscReal sign, PetscReal field[], PetscReal *potential)
{
  const PetscReal s = a * a + b * b, ab = Angle(a, b), ba = Angle(b, a);

  field[0] -= sign * (Times(b, s) / 2 + a * ab);
  field[1] -= sign * (Times(a, s) / 2 + b * ba);
  *potential -= sign * (Times(a * b, s) - 3 * a * b + a * a * ab + b * b * ba) / 2;
}

/* log(c + r), r^2 = a^2 + b^2 + c^2, that keeps its digits for c < 0; at its pole a = b = 0, where factors wipe it out, 0 */
static PetscReal LogSum(PetscReal a, PetscReal b, PetscReal c, PetscReal r)
{
  const PetscReal sum = c >= 0 ? c + r : (a * a + b * b) / (r - c);

  return sum > 0 ? PetscLogReal(sum) : 0;
}

/* field[0] = b log(c + r) + c log(b + r) - a atan(b c / (a r)); V the sum of a b log(c + r) - a^2 atan(...) / 2 */
static void Corner3(const PetscReal p[3], PetscReal sign, PetscReal field[], PetscReal *potential)
{
  const PetscReal r = PetscSqrtReal(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]);
  PetscReal       logs[3]; /* log(p_k + r) */

  for (int k = 0; k < 3; k++) logs[k] = LogSum(p[(k + 1) % 3], p[(k + 2) % 3], p[k], r);
  for (int k = 0; k < 3; k++) {
    const PetscReal a = p[k], b = p[(k + 1) % 3], c = p[(k + 2) % 3], angle = r > 0 ? Angle(a, b * c / r) : 0;

    field[k] += sign * (b * logs[(k + 2) % 3] + c * logs[(k + 1) % 3] - a * angle);
    *potential += sign * (a * b * logs[(k + 2) % 3] - a * a * angle / 2);
  }
}

void GramBoxFieldByHeat(PetscInt dim, const PetscReal lower[], const PetscReal upper[], const PetscReal x[],
                        PetscReal field[], PetscReal *potential)
{
  const PetscReal step = 0.25, area = GramSphereArea(dim);
  PetscReal       least = PETSC_MAX_REAL, most = 0, factor[GRAM_MAX_DIM], slope[GRAM_MAX_DIM], first;
  PetscReal       near = PETSC_MAX_REAL; /* the nearest wall */
  PetscInt        count, early = 0;

  for (PetscInt k = 0; k < dim; k++) {
    least = PetscMin(least, upper[k] - lower[k]);
    most  = PetscMax(most, upper[k] - lower[k]);
    near  = PetscMin(near, PetscMin(x[k] - lower[k], upper[k] - x[k]));
  }
  *potential = 0;
  for (PetscInt k = 0; k < dim; k++) field[k] = 0;
  /* from where t^(1/2), of a point on a wall, to where t^(1 - d/2), or t^-1 of a field, has no more digits */
  first = 2 * PetscLogReal(least) - 75;
  count = (PetscInt)((2 * PetscLogReal(most) + 75 / PetscMax((PetscReal)(dim - 2), 1) - first) / step) + 1;
  if (near > 0) early = (PetscInt)PetscMax(PetscFloorReal((2 * PetscLogReal(near / 12.2) - first) / step), 0);
  if (early > 0) /* all error functions are 1: the field is 0, and V a geometric series */
    *potential =
        area * step * PetscExpReal(first) * PetscExpReal((PetscReal)early * step) / expm1((double)step);
  for (PetscInt i = early; i < count; i++) {
    const PetscReal t = PetscExpReal(first + (PetscReal)i * step), width = PetscSqrtReal(4 * t);
    PetscReal       product = area * step * t;

    for (PetscInt k = 0; k < dim; k++) {
      const PetscReal a = (upper[k] - x[k]) / width, b = (x[k] - lower[k]) / width;

      factor[k] = (erf(a) + erf(b)) / 2;
      slope[k]  = (PetscExpReal(-a * a) - PetscExpReal(-b * b)) / (PetscSqrtReal(PETSC_PI) * width);
      product *= factor[k];
    }
    *potential += product;
    for (PetscInt k = 0; k < dim; k++) field[k] += product * slope[k] / factor[k];
  }
}

void GramBoxField(PetscInt dim, const PetscReal lower[], const PetscReal upper[], const PetscReal x[],
                  PetscReal field[], PetscReal *potential)
{
  if (dim > 3) {
    GramBoxFieldByHeat(dim, lower, upper, x, field, potential);
    return;
  }
  *potential = 0;
  for (PetscInt k = 0; k < dim; k++) field[k] = 0;
  for (int corner = 0; corner < 1 << dim; corner++) {
    PetscReal p[3] = {0}, sign = 1;

    for (PetscInt k = 0; k < dim; k++) {
      p[k] = (corner >> k & 1 ? upper[k] : lower[k]) - x[k];
      if (!(corner >> k & 1)) sign = -sign;
    }
    if (dim == 2) Corner2(p[0], p[1], sign, field, potential);
    else Corner3(p, sign, field, potential);
  }
}
