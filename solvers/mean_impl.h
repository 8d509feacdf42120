/*
  Means of Gaussians over a box, for one type of numbers. mean.c includes it for each, after

      #define MEAN(name)    // its functions and types
      #define MEAN_REAL     // the type
      #define MEAN_F(name)  // its exp, erf, ...
      #define MEAN_C(x)     // a constant in it
      #define MEAN_LOG_MAX  // exp(-MEAN_LOG_MAX) is 0 in it
*/

/* phi(r) = constant + sum_j w_j exp(-g_j r^2), made by NodesCreate() from a Mixture. value: the first that means need,
   all of them are for gradients. */
typedef struct {
  PetscInt   n, value;
  MEAN_REAL *g, *w, constant;
} MEAN(Nodes);

/* a (d + 1 - e^d), with all digits near 0 where a may be large: the logarithm of (s / a)^a e^(a - s), s = a e^d */
static MEAN_REAL MEAN(LogWeight)(MEAN_REAL a, MEAN_REAL d)
{
  MEAN_REAL term = d * d / 2, sum = 0;

  if (MEAN_F(fabs)(d) > MEAN_C(0.5)) return a * (d - MEAN_F(expm1)(d));
  for (int k = 3; sum + term != sum; k++) { /* terms fall faster than 0.5^k */
    sum += term;
    term *= d / k;
  }
  return -a * sum;
}

static PetscErrorCode MEAN(NodesCreate)(const Mixture *m, MEAN(Nodes) * nodes)
{
  const MEAN_REAL h = m->step, a = m->order;
  MEAN_REAL       total = 0, w;

  PetscFunctionBegin;
  nodes->n        = m->last - m->first + 1;
  nodes->value    = m->value - m->first;
  nodes->constant = 0;
  PetscCall(PetscMalloc2(nodes->n, &nodes->g, nodes->n, &nodes->w));
  /* phi(0) = 1: the sum of all weights, of nodes that are not needed too */
  for (PetscInt j = 0; w = MEAN_F(exp)(MEAN(LogWeight)(a, j * h)), total + w != total; j++) total += w;
  for (PetscInt j = -1; w = MEAN_F(exp)(MEAN(LogWeight)(a, j * h)), total + w != total; j--) {
    if (m->closed && j < m->first) { /* from here on a geometric series, of Gaussians that are 1 */
      nodes->constant = MEAN_F(exp)(a * (1 + j * h)) / -MEAN_F(expm1)(-a * h);
      total += nodes->constant;
      break;
    }
    total += w;
  }
  nodes->constant /= total;
  for (PetscInt j = 0; j < nodes->n; j++) {
    const MEAN_REAL d = (m->first + j) * h;

    nodes->w[j] = MEAN_F(exp)(MEAN(LogWeight)(a, d)) / total;
    nodes->g[j] = MEAN_F(exp)(m->inverse ? -d : d) / 2;
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* (1 / width) int exp(-p^2 (x - y)^2) dy over an interval, x that far from its ends (negative: outside), positive terms
   only or a series, so that all digits are right wherever x is */
static MEAN_REAL MEAN(Factor)(MEAN_REAL p, MEAN_REAL width, MEAN_REAL left, MEAN_REAL right)
{
  const MEAN_REAL half_root_pi = MEAN_C(0.886226925452758013649083741670572591), w = p * width;
  MEAN_REAL       near, middle, before = 0, now = 1, next, sum = 0;

  if (!(left < 0 || right < 0)) /* NaN too */
    return half_root_pi * (MEAN_F(erf)(p * left) + MEAN_F(erf)(p * right)) / w;
  near = -p * (left < right ? left : right);
  if (near * near > MEAN_LOG_MAX) return 0;
  if (w > 1) return half_root_pi * (MEAN_F(erfc)(near) - MEAN_F(erfc)(near + w)) / w;
  /* Taylor about the middle: now = H_n(middle) (w/2)^n / n! of the Hermite polynomials */
  middle = near + w / 2;
  for (int n = 0; sum + now != sum || sum + before != sum; n++) {
    if (n % 2 == 0) sum += now / (n + 1);
    next   = (middle * w * now - w * w / 2 * before) / (n + 1);
    before = now;
    now    = next;
  }
  return sum * MEAN_F(exp)(-middle * middle);
}

/* (1 / width^2) int int exp(-p^2 (x - y)^2) dx dy, q = p width: no digits lost for any q */
static MEAN_REAL MEAN(Twice)(MEAN_REAL q)
{
  const MEAN_REAL root_pi = MEAN_C(1.772453850905516027298167483341145183), q2 = q * q;

  return (MEAN_F(expm1)(-q2) + root_pi * q * MEAN_F(erf)(q)) / q2;
}

/* of phi at x [dim], and unless NULL its gradient [dim] */
static MEAN_REAL MEAN(Mean)(const MEAN(Nodes) * nodes, const Box *box, const PetscReal x[],
                            MEAN_REAL gradient[])
{
  MEAN_REAL z = nodes->constant, left[GRAM_MAX_DIM], right[GRAM_MAX_DIM], width[GRAM_MAX_DIM],
            factor[GRAM_MAX_DIM], scale[GRAM_MAX_DIM];

  for (PetscInt c = 0; c < box->dim; c++) {
    left[c]  = (MEAN_REAL)x[c] - box->lower[c];
    right[c] = (MEAN_REAL)box->upper[c] - x[c];
    width[c] = (MEAN_REAL)box->upper[c] - box->lower[c];
    scale[c] = 1 / (MEAN_REAL)box->length_scale[c];
    if (gradient) gradient[c] = 0;
  }
  for (PetscInt j = gradient ? 0 : nodes->value; j < nodes->n; j++) {
    const MEAN_REAL root    = MEAN_F(sqrt)(nodes->g[j]);
    MEAN_REAL       product = nodes->w[j];

    for (PetscInt c = 0; c < box->dim; c++) {
      factor[c] = MEAN(Factor)(root * scale[c], width[c], left[c], right[c]);
      product *= factor[c];
    }
    z += product;
    for (PetscInt c = 0; c < box->dim && gradient; c++) {
      const MEAN_REAL p = root * scale[c], l = p * left[c], r = p * right[c];
      MEAN_REAL       slope = nodes->w[j] * (MEAN_F(exp)(-l * l) - MEAN_F(exp)(-r * r)) / width[c];

      for (PetscInt e = 0; e < box->dim; e++) slope *= e == c ? 1 : factor[e];
      gradient[c] += slope;
    }
  }
  return z;
}

/* the mean of that mean */
static MEAN_REAL MEAN(MeanOfMean)(const MEAN(Nodes) * nodes, const Box *box)
{
  MEAN_REAL sum = nodes->constant;

  for (PetscInt j = nodes->value; j < nodes->n; j++) {
    const MEAN_REAL root    = MEAN_F(sqrt)(nodes->g[j]);
    MEAN_REAL       product = nodes->w[j];

    for (PetscInt c = 0; c < box->dim; c++)
      product *= MEAN(Twice)(root / box->length_scale[c] * ((MEAN_REAL)box->upper[c] - box->lower[c]));
    sum += product;
  }
  return sum;
}

#undef MEAN
#undef MEAN_REAL
#undef MEAN_F
#undef MEAN_C
#undef MEAN_LOG_MAX
