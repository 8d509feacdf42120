static const char help[] =
    "Profiles and their derivatives agree with their textbook formulas, in every copy of a tile.\n";

#include "../check.h"

#define GRAM_REAL double
#include "tile.h"

#define BETA 2.5 /* of rational_quadratic in the table */

/*
  phi(r), phi'(r), phi''(r), 50 digits rounded to 18; at r = 0 limits. By mpmath:

      mp.dps = 50; phi = lambda r: r ** 3; phi(r), diff(phi, r, 1, h=mpf(10) ** -35), diff(phi, r, 2, h=mpf(10) ** -35)

  and likewise exp(-r ** 2 / 2), (1 + r ** 2) ** (-1 / 2), (1 + r ** 2 / 5) ** (-5 / 2), max(1 - r, 0) ** 4 * (4 * r + 1),
  max(1 - r, 0) ** 6 * (35 * r ** 2 + 18 * r + 3) / 3, -sqrt(1 + r ** 2), r ** 2 * log(r), and for nu = p + 1 / 2
  exp(-sqrt(2 * nu) * r) * fac(p) / fac(2 * p) * sum(fac(p + i) / (fac(i) * fac(p - i)) * (2 * sqrt(2 * nu) * r) ** (p - i))
*/
static const struct {
  GramRadial type;
  double     r, phi, first, second;
} table[] = {
    {GRAM_RADIAL_GAUSSIAN, 0, 1, 0, -1},
    {GRAM_RADIAL_GAUSSIAN, 0x1p-30, 1, -9.31322574615478515e-10, -0.999999999999999999},
    {GRAM_RADIAL_GAUSSIAN, 0x1p-7, 0.99996948288753155, -0.00781226158505884024, -0.999908449593898278},
    {GRAM_RADIAL_GAUSSIAN, 0.375, 0.932102492359527578, -0.349538434634822842, -0.801025579371469012},
    {GRAM_RADIAL_GAUSSIAN, 1 - 0x1p-10, 0.607122974621671201, -0.606530081091767225, -0.00118520806222015471},
    {GRAM_RADIAL_GAUSSIAN, 1, 0.606530659712633424, -0.606530659712633424, -4.04353773141755616e-71},
    {GRAM_RADIAL_GAUSSIAN, 2.5, 0.0439369336234074173, -0.109842334058518543, 0.230668901522888941},
    {GRAM_RADIAL_GAUSSIAN, 40, 0, 0, 0},
    {GRAM_RADIAL_EXPONENTIAL, 0x1p-30, 0.999999999068677426, -0.999999999068677426, 0.999999999068677426},
    {GRAM_RADIAL_EXPONENTIAL, 0x1p-7, 0.992217938260243512, -0.992217938260243512, 0.992217938260243512},
    {GRAM_RADIAL_EXPONENTIAL, 0.375, 0.687289278790972199, -0.687289278790972199, 0.687289278790972199},
    {GRAM_RADIAL_EXPONENTIAL, 1 - 0x1p-10, 0.368238873913914946, -0.368238873913914946, 0.368238873913914946},
    {GRAM_RADIAL_EXPONENTIAL, 1, 0.367879441171442322, -0.367879441171442322, 0.367879441171442322},
    {GRAM_RADIAL_EXPONENTIAL, 2.5, 0.0820849986238987952, -0.0820849986238987952, 0.0820849986238987952},
    {GRAM_RADIAL_EXPONENTIAL, 40, 4.248354255291589e-18, -4.248354255291589e-18, 4.248354255291589e-18},
    {GRAM_RADIAL_MATERN32, 0, 1, 0, -3},
    {GRAM_RADIAL_MATERN32, 0x1p-30, 0.999999999999999999, -2.79396771933949175e-9, -2.99999999032141191},
    {GRAM_RADIAL_MATERN32, 0x1p-7, 0.999909268995938619, -0.0231224881462584925, -2.91962915845435823},
    {GRAM_RADIAL_MATERN32, 0.375, 0.86153871019305638, -0.58758402778035916, -0.549165350916079713},
    {GRAM_RADIAL_MATERN32, 1 - 0x1p-10, 0.483876233677969891, -0.531142940571720753, 0.388304417269604587},
    {GRAM_RADIAL_MATERN32, 1, 0.483357724596507651, -0.530763618953292614, 0.388545935882937724},
    {GRAM_RADIAL_MATERN32, 2.5, 0.0701757864309334259, -0.0987440630145485188, 0.131532108881161463},
    {GRAM_RADIAL_MATERN32, 40, 5.7284877287016096e-29, -9.78085728202890901e-29, 1.66964203220033833e-28},
    {GRAM_RADIAL_MATERN52, 0, 1, 0, -1.66666666666666667},
    {GRAM_RADIAL_MATERN52, 0x1p-30, 0.999999999999999999, -1.55220429102579752e-9, -1.66666666666666666},
    {GRAM_RADIAL_MATERN52, 0x1p-7, 0.999949141214344458, -0.0130188694998573488, -1.66591547785524029},
    {GRAM_RADIAL_MATERN52, 0.375, 0.896213456748828051, -0.49680124927030847, -0.818146041805816756},
    {GRAM_RADIAL_MATERN52, 1 - 0x1p-10, 0.524557188618918991, -0.576746907726880465, 0.313543192313263202},
    {GRAM_RADIAL_MATERN52, 1, 0.523994108831820311, -0.576440387885295654, 0.314208992617918938},
    {GRAM_RADIAL_MATERN52, 2.5, 0.0635102145489437464, -0.102542856888796083, 0.153482501722644999},
    {GRAM_RADIAL_MATERN52, 40, 3.9443427364235614e-36, -8.62587181551018718e-36, 1.88591265005667883e-35},
    {GRAM_RADIAL_MATERN72, 0, 1, 0, -1.4},
    {GRAM_RADIAL_MATERN72, 0x1p-30, 0.999999999999999999, -1.30385160446166992e-9, -1.4},
    {GRAM_RADIAL_MATERN72, 0x1p-7, 0.999957276911677905, -0.0109367212482522129, -1.39970098027595421},
    {GRAM_RADIAL_MATERN72, 0.375, 0.908778680877021006, -0.45166020560661901, -0.865112523566757109},
    {GRAM_RADIAL_MATERN72, 1 - 0x1p-10, 0.54552256615107132, -0.59416420256705078, 0.250187913622543234},
    {GRAM_RADIAL_MATERN72, 1, 0.544942447112874791, -0.593919442385707868, 0.25108047547587633},
    {GRAM_RADIAL_MATERN72, 2.5, 0.0595465695895107746, -0.104180937674041623, 0.166791736708875526},
    {GRAM_RADIAL_MATERN72, 40, 9.13761341380553421e-42, -2.3503358996504588e-41, 6.04377900471630513e-41},
    {GRAM_RADIAL_MATERN92, 0, 1, 0, -1.28571428571428571},
    {GRAM_RADIAL_MATERN92, 0x1p-30, 0.999999999999999999, -1.19741473879132952e-9, -1.28571428571428571},
    {GRAM_RADIAL_MATERN92, 0x1p-7, 0.999960764191479665, -0.0100440911136869014, -1.28550242269207008},
    {GRAM_RADIAL_MATERN92, 0.375, 0.914957885249664943, -0.426724598086885565, -0.868837125273240902},
    {GRAM_RADIAL_MATERN92, 1 - 0x1p-10, 0.558202872885260208, -0.601911825839279857, 0.203824216401964949},
    {GRAM_RADIAL_MATERN92, 1, 0.557615165720076161, -0.601712283417327082, 0.204838224142068794},
    {GRAM_RADIAL_MATERN92, 2.5, 0.0569232458454828367, -0.105110721594612838, 0.17595490350658445},
    {GRAM_RADIAL_MATERN92, 40, 1.64526334923948428e-46, -4.77466198155942911e-46, 1.38524377468434727e-45},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 0, 1, 0, -1},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 0x1p-30, 1, -9.31322574615478514e-10, -0.999999999999999996},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 0x1p-7, 0.999969483818787811, -0.00781178479882849191,
     -0.999725376717990196},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 0.375, 0.936329177569044512, -0.307834250159685867,
     -0.517273991135910498},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 1 - 0x1p-10, 0.707452132422021401, -0.353725897376481543,
     0.176516922320852877},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 1, 0.707106781186547524, -0.353553390593273762, 0.176776695296636881},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 2.5, 0.371390676354103726, -0.128065750466932319,
     0.0812555106410880923},
    {GRAM_RADIAL_INVERSE_MULTIQUADRIC, 40, 0.0249921911602030689, -0.000624414519930120396,
     0.0000311914748478522041},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 0, 1, 0, -1},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 0x1p-30, 1, -9.31322574615478515e-10, -0.999999999999999998},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 0x1p-7, 0.999969483073788865, -0.00781216622315675924,
     -0.999871832039023393},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 0.375, 0.933007641959802351, -0.340306738708742499,
     -0.73371098274792709},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 1 - 0x1p-10, 0.634454087284414755, -0.528367329937489552,
     0.0871431842535645173},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 1, 0.633938145260608928, -0.528281787717174106, 0.0880469646195290177},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 2.5, 0.131687242798353909, -0.146319158664837677, 0.169079916679367983},
    {GRAM_RADIAL_RATIONAL_QUADRATIC, 40, 5.41673287512686771e-7, -6.74982289735435229e-8,
     1.00879362461238334e-8},
    {GRAM_RADIAL_WENDLAND2, 0, 1, 0, -20},
    {GRAM_RADIAL_WENDLAND2, 0x1p-30, 0.999999999999999991, -1.86264514402678661e-8, -19.9999998882412912},
    {GRAM_RADIAL_WENDLAND2, 0x1p-7, 0.999399129417724907, -0.152616426348686218, -19.0734481811523438},
    {GRAM_RADIAL_WENDLAND2, 0.375, 0.3814697265625, -1.8310546875, 3.90625},
    {GRAM_RADIAL_WENDLAND2, 1 - 0x1p-10, 4.54392079518584069e-12, -1.86082615982741117e-8,
     0.0000571459531784057617},
    {GRAM_RADIAL_WENDLAND2, 1, 0, 0, 0},
    {GRAM_RADIAL_WENDLAND2, 2.5, 0, 0, 0},
    {GRAM_RADIAL_WENDLAND2, 40, 0, 0, 0},
    {GRAM_RADIAL_WENDLAND4, 0, 1, 0, -18.6666666666666667},
    {GRAM_RADIAL_WENDLAND4, 0x1p-30, 0.999999999999999992, -1.73846880594889321e-8, -18.6666666666666659},
    {GRAM_RADIAL_WENDLAND4, 0x1p-7, 0.999430594997534334, -0.145702576133606006, -18.6168057209257919},
    {GRAM_RADIAL_WENDLAND4, 0.375, 0.291503965854644775, -1.91926956176757813, 6.89824422200520833},
    {GRAM_RADIAL_WENDLAND4, 1 - 0x1p-10, 1.61659157931045532e-17, -9.92979637859554842e-14,
     5.08223363856104745e-10},
    {GRAM_RADIAL_WENDLAND4, 1, 0, 0, 0},
    {GRAM_RADIAL_WENDLAND4, 2.5, 0, 0, 0},
    {GRAM_RADIAL_WENDLAND4, 40, 0, 0, 0},
    {GRAM_RADIAL_MULTIQUADRIC, 0, -1, 0, -1},
    {GRAM_RADIAL_MULTIQUADRIC, 0x1p-30, -1, -9.31322574615478515e-10, -0.999999999999999999},
    {GRAM_RADIAL_MULTIQUADRIC, 0x1p-7, -1.00003051711247792, -0.00781226159233427978, -0.999908454250046964},
    {GRAM_RADIAL_MULTIQUADRIC, 0.375, -1.0680004681646914, -0.351123441588391692, -0.820891333759162311},
    {GRAM_RADIAL_MULTIQUADRIC, 1 - 0x1p-10, -1.41352319707683482, -0.706761261198953021,
     -0.354071670492196578},
    {GRAM_RADIAL_MULTIQUADRIC, 1, -1.41421356237309505, -0.707106781186547524, -0.353553390593273762},
    {GRAM_RADIAL_MULTIQUADRIC, 2.5, -2.69258240356725202, -0.928476690885259316, -0.0512263001867729278},
    {GRAM_RADIAL_MULTIQUADRIC, 40, -40.0124980474851132, -0.999687646408122754, -0.0000156103629982530099},
    {GRAM_RADIAL_CUBIC, 0, 0, 0, 0},
    {GRAM_RADIAL_CUBIC, 0x1p-30, 8.07793566946316089e-28, 2.60208521396521064e-18, 5.58793544769287109e-9},
    {GRAM_RADIAL_CUBIC, 0x1p-7, 4.76837158203125e-7, 0.00018310546875, 0.046875},
    {GRAM_RADIAL_CUBIC, 0.375, 0.052734375, 0.421875, 2.25},
    {GRAM_RADIAL_CUBIC, 1 - 0x1p-10, 0.997073172591626644, 2.99414348602294922, 5.994140625},
    {GRAM_RADIAL_CUBIC, 1, 1, 3, 6},
    {GRAM_RADIAL_CUBIC, 2.5, 15.625, 18.75, 15},
    {GRAM_RADIAL_CUBIC, 40, 64000, 4800, 240},
    {GRAM_RADIAL_THIN_PLATE, 0x1p-30, -1.80362802963670778e-17, -3.7801294432577415e-8, -38.5888308335967186},
    {GRAM_RADIAL_THIN_PLATE, 0x1p-7, -0.000296144425288062571, -0.0680004728737440182, -6.70406052783923433},
    {GRAM_RADIAL_THIN_PLATE, 0.375, -0.137929113704774002, -0.360621939758794678, 1.03834149397654753},
    {GRAM_RADIAL_THIN_PLATE, 1 - 0x1p-10, -0.000975132299042069676, 0.997071266484908936,
     2.99804592070434677},
    {GRAM_RADIAL_THIN_PLATE, 1, 0, 1, 3},
    {GRAM_RADIAL_THIN_PLATE, 2.5, 5.72681707421346916, 7.08145365937077533, 4.83258146374831013},
    {GRAM_RADIAL_THIN_PLATE, 40, 5902.20712658229808, 335.110356329114904, 10.3777589082278726},
};

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
#define TEST_TWONU(UPPER, Camel, name, takes_beta, twonu, ...) twonu,
  static const int twonu[] = {GRAM_RADIAL_LIST(TEST_TWONU)};

  switch (type) {
  case GRAM_RADIAL_GAUSSIAN: return expl(-r * r / 2);
  case GRAM_RADIAL_INVERSE_MULTIQUADRIC: return 1 / sqrtl(1 + r * r);
  case GRAM_RADIAL_WENDLAND2: return r < 1 ? powl(1 - r, 4) * (4 * r + 1) : 0;
  case GRAM_RADIAL_WENDLAND4: return r < 1 ? powl(1 - r, 6) * (35 * r * r + 18 * r + 3) / 3 : 0;
  case GRAM_RADIAL_MULTIQUADRIC: return -sqrtl(1 + r * r);
  case GRAM_RADIAL_CUBIC: return r * r * r;
  case GRAM_RADIAL_RATIONAL_QUADRATIC: return 1 / (1 + r * r / 2);
  case GRAM_RADIAL_THIN_PLATE: return r > 0 ? r * r * logl(r) : 0;
  default: return Matern((twonu[type] - 1) / 2, r);
  }
}

#define TEST_INFO(UPPER, Camel, name, takes_beta, twonu, powers, fma, order, unit, ...) \
  {name, unit, takes_beta},
static const struct {
  const char *name;
  double      unit;
  int         beta;
} list[] = {GRAM_RADIAL_LIST(TEST_INFO)};

static void Close(const char *copy, int row, const char *what, double got, double expected, double scale,
                  int narrow)
{
  /* an argument rounded four times, and what a power of two loses for its exponent, which grows with r */
  const double limit =
      (narrow ? 0x1p-24 : 0x1p-53) * 16 * (1 + 4 * table[row].r) * scale + (narrow ? 1e-30 : 1e-290);

  CHECK(fabs(got - expected) <= limit, "%s %s of %s at %g: %.17g, not %.17g", copy, what,
        list[table[row].type].name, table[row].r, got, expected);
}

static void CheckRow(const char *copy, int row, double phi, double first, double second, int narrow)
{
  const double r = table[row].r, slope = fabs(table[row].first), curve = fabs(table[row].second);

  Close(copy, row, "phi", phi, table[row].phi, fabs(table[row].phi) + r * slope, narrow);
  Close(copy, row, "phi'", first, table[row].first, slope + r * curve, narrow);
  Close(copy, row, "phi''", second, table[row].second, curve + (r > 0 ? slope / r : 0), narrow);
}

/* phi, phi', phi'' from the blocks of one pair on a line: B (1, 0) = (phi, phi' / c), B (0, 1) = (-phi' / c, -phi'' / c^2) */
static void Copy(const char *name, const GramTileCode *code, int narrow)
{
  for (int row = 0; row < (int)PETSC_STATIC_ARRAY_LENGTH(table); row++) {
    const GramRadial type                 = table[row].type;
    const double     c                    = list[type].unit / (list[type].beta ? sqrt(BETA) : 1);
    double           x[1 + GRAM_TILE_PAD] = {0}, z = 0, v[2][2] = {{1, 0}, {0, 1}}, y[2][2] = {{0}};
    float            xf[1 + GRAM_TILE_PAD] = {0}, zf = 0, vf[2][2] = {{1, 0}, {0, 1}};

    x[0]  = c * table[row].r;
    xf[0] = (float)x[0];
    for (int s = 0; s < 2; s++)
      code->derivatives(type, BETA, 1, 1, 1, 1, 1, 1, narrow ? (void *)xf : (void *)x, 1 + GRAM_TILE_PAD,
                        narrow ? (void *)&zf : (void *)&z, 1, narrow ? (void *)vf[s] : (void *)v[s], y[s],
                        NULL, NULL);
    CheckRow(name, row, y[0][0], c * y[0][1], -c * c * y[1][1], narrow);
    CHECK(y[1][0] == -y[0][1], "%s: %s at %g: %g against %g", name, list[type].name, table[row].r, y[1][0],
          y[0][1]);
    if (Textbook(type, 0) == 0 || table[row].phi == 0) /* no remainder where phi is 0 */
      CHECK(table[row].phi != 0 || table[row].r >= 40 || y[0][0] == 0, "%s: %s at %g is %g", name,
            list[type].name, table[row].r, y[0][0]);
  }
}

/* log2 of everything from denormals on, to 2 units in the last place; nothing times 0 */
static void Logarithms(void)
{
  for (int i = 0; i < 200000; i++) {
    const double u = CheckUniform(1, (uint64_t)i), s = i % 4 == 0   ? exp2(2000 * u - 1074)
                                                       : i % 4 == 1 ? 0.5 + u
                                                       : i % 4 == 2 ? 1 + 1e-3 * (u - 0.5)
                                                                    : 8 * u;
    if (s > 0x1p970) continue;
    CHECK_CLOSE("log2", GramLog2(s), log2l(s), 4.5e-16);
    CHECK_CLOSE("log2(1 + s)", GramLog2Plus1(s), log1pl(s) * 1.442695040888963407359924681L, 4.5e-16);
  }
  CHECK(GramLog2(1) == 0 && GramLog2Plus1(0) == 0 && 0 * GramLog2(0) == 0, "log2 of 1, of 1 + 0, times 0");
  CHECK(GramLog2Plus1(INFINITY) >= 1000, "log2 of infinity is %g", GramLog2Plus1(INFINITY));
}

int main(int argc, char **argv)
{
#define TEST_COPY(simd, supported)                         \
  if (supported) Copy(#simd, &GramTileCode_f64_##simd, 0); \
  if (supported) Copy(#simd " in float", &GramTileCode_f32_##simd, 1);
  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) {
    const double c = list[type].unit;

    for (int i = 0; i <= 4000; i++) {
      const double  r = i == 0 ? 0 : 1e-9 * pow(10, i / 400.0), s = c * r * c * r;
      const double  expected = (double)Textbook((GramRadial)type, r);
      const GramJet jet      = RadialJet((GramRadial)type, s, 1);

      /* s is rounded three times, and |d phi / phi| = |s first / phi| |d s / s| / 2 */
      if (fabs(expected) > 1e-300)
        CHECK_CLOSE(list[type].name, jet.phi, expected, 4e-16 * (2 + fabs(s * jet.first / jet.phi)));
      else CHECK(fabs(jet.phi) <= 1e-290, "%s at %g: %g, not 0", list[type].name, r, jet.phi);
    }
    CHECK(RadialEval((GramRadial)type, 0.0, 1) == (double)Textbook((GramRadial)type, 0), "%s at 0 is not %g",
          list[type].name, (double)Textbook((GramRadial)type, 0));
  }
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) { /* first = 2 d phi / ds, second = 4 d^2 phi / ds^2 */
    for (int i = 0; i < 200; i++) {
      const long double c2 = (long double)list[type].unit * list[type].unit, s = 0.01L + 0.1L * i,
                        h     = 1e-4L * (s + 0.1L);
      const long double below = Textbook((GramRadial)type, sqrtl((s - h) / c2)),
                        at    = Textbook((GramRadial)type, sqrtl(s / c2)),
                        above = Textbook((GramRadial)type, sqrtl((s + h) / c2));
      const GramJet jet       = RadialJet((GramRadial)type, (double)s, 1);

      CHECK_CLOSE("first derivative", jet.first, (double)((above - below) / h), 1e-5);
      CHECK_CLOSE("second derivative", jet.second, (double)(4 * (above - 2 * at + below) / (h * h)), 1e-5);
    }
  }
  for (int row = 0; row < (int)PETSC_STATIC_ARRAY_LENGTH(table); row++) {
    const GramRadial type = table[row].type;
    const double     c = list[type].unit / (list[type].beta ? sqrt(BETA) : 1), d = c * table[row].r;
    const GramJet    jet = RadialJet(type, d * d, BETA);

    CheckRow("a number:", row, jet.phi, c * d * jet.first, c * c * (jet.first + d * d * jet.second), 0);
  }
  GRAM_SIMD_LIST(TEST_COPY)
  Logarithms();
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
