static const char help[] = "Profiles agree with their textbook formulas in long double, at every distance.\n";

#include "../check.h"

#define GRAM_REAL double
#include "radial.h"

/* Rasmussen and Williams (2006), eq. 4.16, the sum itself */
static long double Matern(int p, long double r)
{
  const long double t   = sqrtl(2 * p + 1) * r;
  long double       sum = 0;

  for (int i = 0; i <= p; i++) {
    sum += tgammal(p + i + 1) / (tgammal(i + 1) * tgammal(p - i + 1)) * powl(2 * t, p - i);
  }
  return expl(-t) * tgammal(p + 1) / tgammal(2 * p + 1) * sum;
}

static long double Textbook(GramRadial type, long double r)
{
#define TEST_TWONU(UPPER, Camel, name, twonu, ...) twonu,
  static const int twonu[] = {GRAM_RADIAL_LIST(TEST_TWONU)};

  switch (type) {
  case GRAM_RADIAL_GAUSSIAN: return expl(-r * r / 2);
  case GRAM_RADIAL_INVERSE_MULTIQUADRIC: return 1 / sqrtl(1 + r * r);
  case GRAM_RADIAL_WENDLAND2: return r < 1 ? powl(1 - r, 4) * (4 * r + 1) : 0;
  case GRAM_RADIAL_WENDLAND4: return r < 1 ? powl(1 - r, 6) * (35 * r * r + 18 * r + 3) / 3 : 0;
  case GRAM_RADIAL_MULTIQUADRIC: return -sqrtl(1 + r * r);
  case GRAM_RADIAL_CUBIC: return r * r * r;
  default: return Matern((twonu[type] - 1) / 2, r);
  }
}

int main(int argc, char **argv)
{
#define TEST_INFO(UPPER, Camel, name, twonu, powers, fma, order, unit, zero, ...) {name, unit, zero},
  static const struct {
    const char *name;
    double      unit, zero;
  } list[] = {GRAM_RADIAL_LIST(TEST_INFO)};

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) {
    const double c = list[type].unit;

    for (int i = 0; i <= 4000; i++) {
      const double  r = i == 0 ? 0 : 1e-9 * pow(10, i / 400.0), s = c * r * c * r;
      const double  expected = (double)Textbook((GramRadial)type, r);
      const GramJet jet      = RadialJet((GramRadial)type, s);

      /* s is rounded three times, and |d phi / phi| = |s first / phi| |d s / s| / 2 */
      if (fabs(expected) > 1e-300)
        CHECK_CLOSE(list[type].name, jet.phi, expected, 4e-16 * (2 + fabs(s * jet.first / jet.phi)));
      else CHECK(fabs(jet.phi) <= 1e-290, "%s at %g: %g, not 0", list[type].name, r, jet.phi);
    }
    CHECK(RadialEval((GramRadial)type, 0.0) == list[type].zero, "%s at 0 is not %g", list[type].name,
          list[type].zero);
  }
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) { /* first = 2 d phi / ds, second = 4 d^2 phi / ds^2 */
    for (int i = 0; i < 200; i++) {
      const long double c2 = (long double)list[type].unit * list[type].unit, s = 0.01L + 0.1L * i,
                        h     = 1e-4L * (s + 0.1L);
      const long double below = Textbook((GramRadial)type, sqrtl((s - h) / c2)),
                        at    = Textbook((GramRadial)type, sqrtl(s / c2)),
                        above = Textbook((GramRadial)type, sqrtl((s + h) / c2));
      const GramJet jet       = RadialJet((GramRadial)type, (double)s);

      CHECK_CLOSE("first derivative", jet.first, (double)((above - below) / h), 1e-5);
      CHECK_CLOSE("second derivative", jet.second, (double)(4 * (above - 2 * at + below) / (h * h)), 1e-5);
    }
  }
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
