# Written from book/learning_rates.md by `make scripts`. Edit that page, not this file.

# %% [markdown]
# (ch-learning-rates)=
# # Learning rates
#
# **How large should a step be, and should it stay so?** As large as the net bears, and then smaller. The same small net,
# with the same {glue:text}`lr-steps` steps, reads {glue:text}`lr-test-constant.mean:.1f` % of Fashion-MNIST's test
# pictures at the best of five constant rates. Let the rate fall to zero along a straight line, from a peak chosen as
# carefully, and it reads {glue:text}`lr-test-linear.mean:.1f` %; begin with a warm-up, and it is
# {glue:text}`lr-test-warm.mean:.1f` %. A rate that is too small only wastes time, and one can say in advance how much:
# 0.001 gets in twenty {term}`epochs <epoch>` as far as 0.01 gets in two.
#
# :::{admonition} Before you start
# :class: tip
#
# **You will learn** what limits a learning rate from above, and why the best one falls with time; the usual schedules,
# from their formulas and in Keras; how to see the right rates in a picture; how to compare schedules fairly; and a
# procedure to find a rate for a net of your own.
#
# **You need** gradient descent, mini-batches and a little NumPy. Words set like {term}`epoch` lead to the
# [glossary](glossary.md), symbols to the [notation](notation.md) page.
#
# **It takes** three quarters of an hour to read. The code has a budget of {given}`75 seconds` in the quick profile on two CPU
# cores; the full one has not been timed yet. The last line of this page says what it took.
# :::

# %%
import os
import warnings

# Many small products: one thread is faster than two that wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
from keras.optimizers import schedules
from plotly.subplots import make_subplots

import calipers

calipers.style()

# %% [markdown]
# Every budget of this chapter stands in one cell; the {term}`profile` picks a column.

# %%
seeds = calipers.choose(smoke=[0], quick=range(6), full=range(10))
choosing_seeds = calipers.choose(smoke=[100], quick=[100, 101], full=[100, 101, 102])
lecture_seeds = calipers.choose(smoke=[0], quick=[0, 1, 2], full=[0, 1, 2, 3, 4])
examples = calipers.choose(smoke=640, quick=10_000, full=48_000)
held_back = calipers.choose(smoke=500, quick=10_000, full=10_000)
steps = calipers.choose(smoke=20, quick=780, full=7_500)
range_steps = calipers.choose(smoke=20, quick=400, full=2_000)
trial_steps = calipers.choose(smoke=12, quick=156, full=1_500)
lecture_examples = calipers.choose(smoke=640, quick=6_000, full=48_000)
lecture_epochs = calipers.choose(smoke=1, quick=20, full=20)
calipers.record("lr-steps", steps, title="Steps of every compared schedule")


# %% [markdown]
# The data are the pictures of Fashion-MNIST {cite}`xiao2017`. To afford many runs on two cores we average every 2×2
# block, which leaves 14×14 grey values, scaled to mean 0 and variance 1. The last 10,000 training pictures are held back:
# what is *chosen* on this page is chosen on them. The test set is read once, at the end.

# %%
def rows(pictures):
    """Average 2 x 2 blocks, and lay each picture out as one row of 196 values."""
    blocks = pictures.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    return blocks.reshape(-1, 196).astype("float32")


(x_train, y_train), (x_test, y_test) = calipers.datasets.load("fashion_mnist")
x_train, x_test = rows(x_train), rows(x_test)
middle, spread = x_train.mean(), x_train.std()
x_train, x_test = (x_train - middle) / spread, (x_test - middle) / spread
y_train, y_test = y_train.astype(int), y_test.astype(int)
x_val, y_val = x_train[-held_back:], y_train[-held_back:]
x_watch, y_watch = (
    x_train[-held_back - 2_000 : -held_back],
    y_train[-held_back - 2_000 : -held_back],
)
x_train, y_train = x_train[:examples], y_train[:examples]
x_train.shape, x_watch.shape, x_val.shape, x_test.shape


# %% [markdown]
# (sec-lr-valley)=
# ## One valley, three answers
#
# Gradient descent takes the step $w \leftarrow w - \eta\, g$ with the learning rate $\eta$. Near a minimum every smooth
# loss is a sum of parabolas. One of them is enough to see what $\eta$ does: $L(w) = \tfrac12 \lambda w^2$, with the
# curvature $\lambda$ and the slope $\lambda w$.
#
# **What is too large?** A step multiplies $w$ by a number:
#
# $$ w_{n+1} = (1 - \eta \lambda)\, w_n . $$ (eq-lr-factor)
#
# Below $\eta = 1/\lambda$ the weight slides to the minimum. Between $1/\lambda$ and $2/\lambda$ the factor is negative:
# $w$ jumps from side to side and still comes nearer. Beyond $2/\lambda$ it is larger than 1 in size, and every jump is
# longer than the last. A net has many parabolas. The steepest of them sets the limit for all:
#
# $$ \eta < \frac{2}{\lambda_{\max}} . $$ (eq-lr-limit)
#
# The largest curvature $\lambda_{\max}$ has a name, {term}`sharpness`.
#
# **What is too small?** For small $\eta\lambda$ the factor is nearly $e^{-\eta\lambda}$. After $N$ steps the product of
# all factors is
#
# $$ \prod_{n<N} (1 - \eta_n \lambda) \approx e^{-\lambda S} , \qquad S = \sum_{n<N} \eta_n . $$ (eq-lr-distance)
#
# Only the sum $S$ counts; call it the {term}`distance`. This holds for every curvature at once, so it should hold for a
# whole net, and we shall test it: **a rate ten times smaller needs ten times the steps and gains nothing for them.**
#
# **Why not stay at the largest?** Because the slope comes from a {term}`mini-batch` and is noisy. Let it be $\lambda w +
# \xi$ with a fresh $\xi$ of mean 0 and variance $s^2$ at every step. Write $v_n$ for the mean of $w_n^2$. The mixed term
# has mean 0, so
#
# $$ v_{n+1} = (1 - \eta_n \lambda)^2\, v_n + \eta_n^2 s^2 . $$ (eq-lr-noisy)
#
# At a constant rate this stops falling where $v_{n+1} = v_n$:
#
# $$ v_\infty = \frac{\eta\, s^2}{\lambda\, (2 - \eta\lambda)} . $$ (eq-lr-floor)
#
# A small rate has a low {term}`noise floor` and takes long to get there. A large rate is there at once, and the floor is
# high. Nothing forces us to choose one rate, though. Which $\eta_n$ makes $v_{n+1}$ smallest, given $v_n$? Set the
# derivative of {eq}`eq-lr-noisy` to zero:
#
# $$ \eta_n = \frac{\lambda v_n}{\lambda^2 v_n + s^2} , \qquad \frac{1}{v_{n+1}} = \frac{1}{v_n} + \frac{\lambda^2}{s^2} . $$ (eq-lr-greedy)
#
# (Put the first into {eq}`eq-lr-noisy` for the second.) So $1/v_n$ grows by the same amount at every step. Insert that
# into the first formula:
#
# $$ \eta_n = \frac{1}{\lambda} \cdot \frac{1}{1 + c_0 + n} = \frac{\eta_0}{1 + n / (1 + c_0)} , \qquad c_0 = \frac{s^2}{\lambda^2 v_0} . $$ (eq-lr-derived)
#
# The best schedule for one noisy parabola falls like $1/n$, and it is the first in the lectures' list. What is best for a
# valley of many curvatures is another question. The figure below follows {eq}`eq-lr-noisy` for twenty curvatures between
# 0.01 and 1, whose noise has a variance proportional to the curvature. {cite:t}`wu2018horizon` study schedules on such a
# valley. First we need the schedules.
#
# (sec-lr-schedules)=
# ## The schedules, from their formulas
#
# **What does a {term}`schedule` look like?** It is a function from the step's number $n = 0, 1, 2, \dots$ to a rate. With
# $\eta_0$ for the rate that it is built on (its *peak*) and $N$ for the number of steps to come:
#
# $$ \begin{aligned}
# \text{power} \quad & \eta_0 \,/\, (1 + n/s)^c \\
# \text{exponential} \quad & \eta_0 \cdot 0.1^{\,n/s} \\
# \text{linear} \quad & \eta_0\, (1 - n/N) \\
# \text{cosine} \quad & \tfrac12\, \eta_0\, (1 + \cos(\pi n / N))
# \end{aligned} $$ (eq-lr-schedules)
#
# The *power* schedule halves the rate after $s$ steps, and brings it to a third after $2s$ if $c = 1$. The *exponential*
# one divides it by ten every $s$ steps. *Linear* and *cosine* {cite}`loshchilov2017` end at zero: they have to know when
# training ends. *Piecewise constant* takes a list of rates and of the steps at which to change. A {term}`warm-up` goes
# before any of them: the rate rises from 0 to its peak in $m$ steps, $\eta_0\, n / m$. *One-cycle*
# {cite}`smith2018superconvergence` rises for a long time, comes down again and ends far below where it began. (It also
# lowers the {term}`momentum` while the rate rises. We have no momentum here, and no claim about that half.)
#
# *Reduce on plateau* is of another kind. It looks at a loss: when that has not improved for so many looks, its
# {term}`patience`, the rate is multiplied by a factor.

# %%
def power(n, peak, s, c=1):
    return peak / (1 + n / s) ** c


def exponential(n, peak, s):
    return peak * 0.1 ** (n / s)


def piecewise(n, boundaries, rates):
    """rates[0] up to and including step boundaries[0], then rates[1], ..."""
    return np.asarray(rates)[np.searchsorted(boundaries, n)]


def linear(n, peak, end):
    return peak * (1 - np.minimum(n, end) / end)


def cosine(n, peak, end):
    return peak * (1 + np.cos(np.pi * np.minimum(n, end) / end)) / 2


def warm_up(n, peak, m, then):
    """Rise to the peak in m steps, then follow the schedule `then` from its start."""
    return np.where(n < m, peak * n / m, then(np.maximum(n - m, 0)))


def one_cycle(n, peak, end):
    """Up for 45 % of the steps, down for 45 %, then to a thousandth of the peak."""
    corners = [0, 0.45 * end, 0.9 * end, end]
    return np.interp(n, corners, [peak / 10, peak, peak / 10, peak / 1000])


class Plateau:
    """Say by which factor to multiply the rate after each look at the loss."""

    def __init__(self, factor=0.3, patience=1, least=1e-4):
        self.factor, self.patience, self.least = factor, patience, least
        self.best, self.waited = np.inf, 0

    def look(self, loss):
        if loss < self.best - self.least:
            self.best, self.waited = loss, 0
            return 1.0
        self.waited += 1
        if self.waited < self.patience:
            return 1.0
        self.waited = 0
        return self.factor


# %% [markdown]
# To compare them we fix their shapes now, in shares of the budget, and leave one thing open for each: the peak.

# %%
def schedule(name, n, peak, end):
    """The rates of steps n for a training of `end` steps."""
    if name == "power":
        return power(n, peak, end / 10)
    if name == "exponential":
        return exponential(n, peak, end / 2)
    if name == "piecewise":
        return piecewise(n, [end // 2, 3 * end // 4], [peak, peak / 10, peak / 100])
    if name == "linear":
        return linear(n, peak, end)
    if name == "cosine":
        return cosine(n, peak, end)
    if name == "warm":
        m = end // 10
        return warm_up(n, peak, m, lambda k: cosine(k, peak, end - m))
    if name == "one-cycle":
        return one_cycle(n, peak, end)
    return np.full(len(n), float(peak))  # constant; "plateau" is lowered on the way


names = {
    "constant": "constant",
    "power": "power",
    "exponential": "exponential",
    "piecewise": "piecewise",
    "plateau": "on plateau",
    "linear": "linear to zero",
    "cosine": "cosine",
    "warm": "warm-up, cosine",
    "one-cycle": "one-cycle",
}

# %% [markdown]
# ### A valley to try them in
#
# Both sliders move the same valley of twenty curvatures. Its loss is $\tfrac12 \sum_i \lambda_i v_i$, and
# {eq}`eq-lr-noisy` gives the mean over all noise exactly, with no dice thrown.

# %%
curvatures = np.geomspace(0.01, 1, 20)


def valley(rates):
    """The mean loss before each step and after the last, by the noisy recursion."""
    v, losses = np.ones(len(curvatures)), []
    for rate in rates:
        losses.append(np.sum(curvatures * v) / 2)
        v = (1 - rate * curvatures) ** 2 * v + rate**2 * 0.1 * curvatures
    return np.array([*losses, np.sum(curvatures * v) / 2])


valley_steps, valley_peaks = 300, [0.05, 0.2, 0.5, 1.0, 1.9]
shown = [name for name in names if name != "plateau"]
n = np.arange(valley_steps)
end_loss = {}
for name in shown:
    for peak in valley_peaks:
        end_loss[name, peak] = valley(schedule(name, n, peak, valley_steps))[-1]
best_valley = {
    name: min(end_loss[name, peak] for peak in valley_peaks) for name in shown
}
calipers.record(
    "lr-valley-constant",
    best_valley["constant"] / best_valley["linear"],
    at_least=1.2,
    title="Last loss in the valley, best constant rate over best linear decay",
)
falling = {name: best_valley[name] for name in shown if name != "constant"}
calipers.record(
    "lr-valley-power",
    sorted(falling, key=falling.get).index("power") + 1,
    equals=len(falling),
    title="Place of the power schedule among the falling ones in the valley",
)
calipers.record(
    "lr-valley-exponential",
    sorted(falling, key=falling.get).index("exponential") + 1,
    equals=1,
    title="Place of the exponential schedule, likewise",
)

# %%
kept = np.unique(np.r_[0:20, 20:valley_steps:6, valley_steps - 1])


def drawn(name, peak):
    rates = schedule(name, n, peak, valley_steps)
    losses = valley(rates)[kept]
    return [
        go.Scatter(x=kept, y=np.round(rates[kept], 4), mode="lines", showlegend=False),
        go.Scatter(x=kept, y=np.round(losses, 4), mode="lines", showlegend=False),
    ]


interactive = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.1)
for row, trace in enumerate(drawn("constant", 0.2), start=1):
    trace.line.color = calipers.COLOURS["blue" if row == 1 else "vermilion"]
    interactive.add_trace(trace, row, 1)
interactive.frames = [
    go.Frame(data=drawn(name, peak), traces=[0, 1])
    for name in shown
    for peak in valley_peaks
]
interactive.update_yaxes(title_text="rate", range=[0, 2], row=1, col=1)
interactive.update_yaxes(
    title_text="loss", type="log", range=[-1.7, 0.8], dtick=1, row=2, col=1
)
interactive.update_xaxes(title_text="step", row=2, col=1)
interactive.update_layout(height=420)

static, axis = plt.subplots()
for name in ("constant", "power", "linear", "one-cycle"):
    axis.plot(valley(schedule(name, n, 1.0, valley_steps)), label=names[name])
axis.set(xlabel="step", ylabel="loss", yscale="log")
axis.legend()
calipers.show_interactive(
    interactive,
    static,
    knobs={
        "schedule": [names[name] for name in shown],
        "peak": [str(peak) for peak in valley_peaks],
    },
    start={"peak": "0.2"},
    alt="Two curves over 300 steps, the rate above and the loss of a noisy valley below. The sliders choose the "
    "schedule and its peak. At a constant rate the loss falls and then runs flat, the higher the larger the rate; "
    "with a falling rate it goes on falling to the end.",
)


# %% [markdown]
# Set the schedule to constant and move the peak: 0.05 has not arrived by the end, 1.9 arrives at once and stays high. Now
# put the peak at 0.5 or 1 and go through the schedules. All that fall do better than standing still. With five peaks for
# each, the best constant rate ends {glue:text}`lr-valley-constant.mean:.1f` times as high as the best linear decay. The
# power schedule, best for one parabola, comes in as number {glue:text}`lr-valley-power` of the seven that fall: when the
# steep directions are calm, it has little speed left for the flat ones. The exponential one is number
# {glue:text}`lr-valley-exponential`, from a peak near the limit of 2. Keep that in mind until we try a net, where no rate
# near the limit is harmless.
#
# (sec-lr-scratch)=
# ## From scratch in NumPy
#
# **How do you compare nine schedules at five peaks without waiting all day?** Train the nets side by side. They have the
# same first weights and see the same batches, so the first layer of all of them is one large matrix product. The net has
# one hidden layer of 32 {term}`ReLU` units. In the arrays the axis of the nets is the second of `w1` and the first of
# everything else.

# %%
def first_weights(seed, hidden=32):
    """He's weights and zero biases: the start of every net with this seed."""
    rng = np.random.default_rng(seed)
    w1 = rng.normal(0, np.sqrt(2 / 196), (196, hidden))
    w2 = rng.normal(0, np.sqrt(2 / hidden), (hidden, 10))
    arrays = w1, np.zeros(hidden), w2, np.zeros(10)
    return [array.astype("float32") for array in arrays]


def side_by_side(arrays, nets):
    """Copy one net's arrays: w1 (196, nets, hidden), b1 (nets, hidden), w2, b2."""
    w1, b1, w2, b2 = arrays
    return [
        np.repeat(w1[:, np.newaxis], nets, axis=1),
        *(np.repeat(array[np.newaxis], nets, axis=0) for array in (b1, w2, b2)),
    ]


def forward(parameters, x):
    """Logits (nets, examples, 10) and hidden activations (nets, examples, hidden)."""
    w1, b1, w2, b2 = parameters
    z = (x @ w1.reshape(len(w1), -1)).reshape(len(x), *b1.shape) + b1
    a = np.maximum(z, 0).transpose(1, 0, 2)
    return a @ w2 + b2[:, np.newaxis], a


def cross_entropy(logits, labels):
    """Each net's mean loss, and its gradient with respect to the logits."""
    true = np.arange(len(labels)), labels
    safe = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(safe)
    total = p.sum(axis=-1, keepdims=True)
    losses = (np.log(total[..., 0]) - safe[:, *true]).mean(axis=-1)
    p /= total
    p[:, *true] -= 1
    return losses, p / len(labels)


def gradients(parameters, x, y):
    logits, a = forward(parameters, x)
    losses, delta2 = cross_entropy(logits, y)
    delta1 = (delta2 @ parameters[2].transpose(0, 2, 1)) * (a > 0)
    flat = delta1.transpose(1, 0, 2).reshape(len(x), -1)
    to_w1 = (x.T @ flat).reshape(parameters[0].shape)
    return losses, [to_w1, delta1.sum(1), a.transpose(0, 2, 1) @ delta2, delta2.sum(1)]


def train(seed, rates, x, y, batch_size=64, watch=None, adam=False):
    """Train one net for each row of `rates` (nets, steps); the nets and their losses."""
    rates = np.array(rates, dtype="float32")
    nets, steps = rates.shape
    parameters = side_by_side(first_weights(seed), nets)
    rng = np.random.default_rng([seed, 1])  # deals the examples
    batches = len(x) // batch_size
    losses = np.empty((nets, steps))
    means = [np.zeros_like(array) for array in parameters]
    squares = [np.zeros_like(array) for array in parameters]
    with np.errstate(all="ignore"):  # a net that diverges may overflow
        for n in range(steps):
            if n % batches == 0:
                order = rng.permutation(len(x))
            batch = order[n % batches * batch_size :][:batch_size]
            losses[:, n], steepest = gradients(parameters, x[batch], y[batch])
            if adam:  # its running means, as in the chapter on optimisers
                for mean, square, g in zip(means, squares, steepest, strict=True):
                    mean += 0.1 * (g - mean)
                    square += 0.001 * (g * g - square)
                scale = np.sqrt(1 - 0.999 ** (n + 1)) / (1 - 0.9 ** (n + 1))
                steepest = [
                    np.float32(scale) * mean / (np.sqrt(square) + np.float32(1e-7))
                    for mean, square in zip(means, squares, strict=True)
                ]
            rate = rates[:, n, np.newaxis]
            parameters[0] -= rate * steepest[0]
            parameters[1] -= rate * steepest[1]
            parameters[2] -= rate[..., np.newaxis] * steepest[2]
            parameters[3] -= rate * steepest[3]
            if watch:
                watch(n, parameters, rates)
    return parameters, losses


def only(parameters, which):
    """The parameters of some of the nets."""
    return [parameters[0][:, which], *(array[which] for array in parameters[1:])]


def evaluate(parameters, x, y):
    """Each net's mean loss and accuracy in %; a net that overflowed guesses."""
    with np.errstate(all="ignore"):
        logits = forward(parameters, x)[0]
        losses = cross_entropy(logits, y)[0]
    sound = np.isfinite(logits).all(axis=(1, 2))
    hits = 100 * (logits.argmax(axis=-1) == y).mean(axis=-1)
    return np.where(sound, losses, np.inf), np.where(sound, hits, 10.0)


# %% [markdown]
# Are the gradients right? Finite differences say so, in two nets at once and at every tenth weight.

# %%
rng = np.random.default_rng(5)
pair = [
    np.stack([rng.normal(size=(196, 3)) / 14 for _ in range(2)], axis=1),
    *(rng.normal(size=shape) for shape in ((2, 3), (2, 3, 10), (2, 10))),
]
x_few, y_few = x_train[:7].astype(float), y_train[:7]
slopes = gradients(pair, x_few, y_few)[1]
checked, wrong = 0, 0
for array, slope in zip(pair, slopes, strict=True):
    for place in list(np.ndindex(array.shape))[::10]:
        value, ends = array[place], []
        for nudge in (1e-6, -1e-6):
            array[place] = value + nudge
            ends.append(gradients(pair, x_few, y_few)[0].sum())
        array[place] = value
        difference = (ends[0] - ends[1]) / 2e-6
        checked += 1
        wrong += abs(difference - slope[place]) > 1e-6 * abs(slope[place]) + 1e-8
calipers.record(
    "lr-gradient-disagreements",
    wrong,
    equals=0,
    title=f"Slopes of {checked} that differ from finite differences",
)


# %% [markdown]
# (sec-lr-keras)=
# ## The same in Keras
#
# **Which class is which formula?** Keras knows two kinds of schedule: an object that the optimiser asks at every *step*,
# and a {term}`callback` that sets the rate at the start or at the end of an *epoch*.
#
# | schedule | in Keras |
# |:--|:--|
# | power, $c = 1$ | `InverseTimeDecay(peak, decay_steps=s, decay_rate=1)` |
# | power, any $c$; one-cycle | none: write a subclass, as below |
# | exponential | `ExponentialDecay(peak, decay_steps=s, decay_rate=0.1)`, or by the epoch `LearningRateScheduler` |
# | piecewise | `PiecewiseConstantDecay(boundaries, values)` |
# | linear | `PolynomialDecay(peak, decay_steps=N, end_learning_rate=0)` |
# | cosine | `CosineDecay(peak, decay_steps=N)` |
# | warm-up, cosine | `CosineDecay(0, decay_steps=N - m, warmup_target=peak, warmup_steps=m)` |
# | on plateau | callback `ReduceLROnPlateau` |

# %%
class FromFormula(schedules.LearningRateSchedule):
    """Any of our formulas as a Keras schedule: a table of rates, one for each step."""

    def __init__(self, rates):
        self.rates = [float(rate) for rate in rates]

    def __call__(self, step):
        table = keras.ops.convert_to_tensor(self.rates, dtype="float32")
        return keras.ops.take(table, keras.ops.minimum(step, len(self.rates) - 1))

    def get_config(self):
        return {"rates": self.rates}


end, m = 40, 4
n = np.arange(end + 10)  # also beyond the end
two = [20, 30], [0.5, 0.05, 0.005]
pairs = {
    "power": (power(n, 0.5, 8), schedules.InverseTimeDecay(0.5, 8, 1)),
    "exponential": (exponential(n, 0.5, 20), schedules.ExponentialDecay(0.5, 20, 0.1)),
    "piecewise": (piecewise(n, *two), schedules.PiecewiseConstantDecay(*two)),
    "linear": (linear(n, 0.5, end), schedules.PolynomialDecay(0.5, end, 0)),
    "cosine": (cosine(n, 0.5, end), schedules.CosineDecay(0.5, end)),
    "warm": (
        warm_up(n, 0.5, m, lambda k: cosine(k, 0.5, end - m)),
        schedules.CosineDecay(0.0, end - m, warmup_target=0.5, warmup_steps=m),
    ),
    "one-cycle": (one_cycle(n, 0.5, end), FromFormula(one_cycle(n, 0.5, end))),
}
apart = 0
for ours, theirs in pairs.values():
    by_keras = [float(keras.ops.convert_to_numpy(theirs(int(k)))) for k in n]
    apart += np.sum(np.abs(ours - by_keras) > 1e-6)
calipers.record(
    "lr-keras-disagreements",
    int(apart),
    equals=0,
    title=f"Rates of {len(pairs) * len(n)} in which formulas and Keras differ",
)


# %% [markdown]
# The callbacks need a training to watch. `ReduceLROnPlateau` listens to whatever loss it is told, so we tell it a made-up
# one, and compare its rates with ours look by look; likewise the lecture's `LearningRateScheduler` for the exponential
# schedule by the epoch.

# %%
def tiny_model(optimizer):
    model = keras.Sequential([keras.Input((196,)), keras.layers.Dense(10)])
    model.compile(optimizer, "mse")
    return model


def rates_by_callback(callback, told):
    """The rate after each epoch when `callback` hears these losses."""
    model = tiny_model(keras.optimizers.SGD(learning_rate=0.5))
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate(told):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(model.optimizer.learning_rate))
    return np.array(rates)


told = [1.0, 0.8, 0.9, 0.81, 0.7, 0.69999, 0.7, 0.7, 0.6, 0.65, 0.65, 0.65, 0.65, 0.5]
apart = 0
for patience in (1, 2, 3):
    ours = Plateau(factor=0.3, patience=patience)
    expected = 0.5 * np.cumprod([ours.look(loss) for loss in told])
    theirs = keras.callbacks.ReduceLROnPlateau(factor=0.3, patience=patience)
    apart += np.sum(np.abs(rates_by_callback(theirs, told) - expected) > 1e-6)
by_epoch = keras.callbacks.LearningRateScheduler(
    lambda epoch: float(exponential(epoch, 0.5, 5))
)
epochs = np.arange(len(told))
apart += np.sum(
    np.abs(rates_by_callback(by_epoch, told) - exponential(epochs, 0.5, 5)) > 1e-6
)
calipers.record(
    "lr-callback-disagreements",
    int(apart),
    equals=0,
    title=f"Rates of {4 * len(told)} in which our plateaus and Keras's callbacks differ",
)
by_keras = [float(keras.ops.convert_to_numpy(pairs["piecewise"][1](int(k)))) for k in n]
calipers.record(
    "lr-plateau-piecewise",
    int(apart + np.sum(np.abs(pairs["piecewise"][0] - by_keras) > 1e-6)),
    equals=0,
    title="Rates in which piecewise constant and plateaus differ from Keras",
)


# %% [markdown]
# And a whole training? The same start, the same batches, warm-up and cosine. If the two counted steps differently, by one
# even, the weights would drift apart.

# %%
def in_keras(seed, learning_rate, count, x, y, batch_size=64):
    """Our net in Keras, trained on the batches that `train` deals for this seed."""
    model = keras.Sequential(
        [
            keras.Input((196,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.set_weights(first_weights(seed))
    model.compile(
        keras.optimizers.SGD(learning_rate=learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    order = np.random.default_rng([seed, 1]).permutation(len(x))[: count * batch_size]
    model.fit(x[order], y[order], batch_size=batch_size, shuffle=False, verbose=0)
    return model


count = min(10, examples // 64)
rates = schedule("warm", np.arange(count), 0.4, count + 10)
ours, _ = train(0, rates[np.newaxis], x_train, y_train)
theirs = in_keras(0, FromFormula(rates), count, x_train, y_train).get_weights()
apart = sum(
    np.sum(np.abs(mine.reshape(yours.shape) - yours) > 1e-4)
    for mine, yours in zip(ours, theirs, strict=True)
)
calipers.record(
    "lr-training-apart",
    int(apart),
    equals=0,
    title=f"Weights that differ from Keras after {count} steps of a warm-up",
)


# %% [markdown]
# (sec-lr-range)=
# ## The range test
#
# **Can one look at the rates instead of guessing?** Train once, and let the rate grow at every step from far too small to
# far too large. Plot the loss against the rate. This is the {term}`range test` of {cite:t}`smith2017cyclical`, who lets
# the rate grow linearly; on a logarithmic axis growth by a constant factor shows more.

# %%
def range_test(seed, steps, low=1e-3, high=10.0, batch_size=64):
    """Rates, and the loss on the way up, smoothed over a twentieth of the test."""
    rates = np.geomspace(low, high, steps)
    _, losses = train(seed, rates[np.newaxis], x_train, y_train, batch_size)
    keep, total, smooth = 1 - 20 / steps if steps > 40 else 0.5, 0.0, []
    for n, loss in enumerate(losses[0]):
        total = keep * total + (1 - keep) * (loss if np.isfinite(loss) else 1e3)
        smooth.append(total / (1 - keep ** (n + 1)))
    return rates, np.array(smooth)


tests = [range_test(seed, range_steps) for seed in seeds]
rates = tests[0][0]
curves = np.array([np.minimum(smooth, 10) for _, smooth in tests])
lowest = calipers.Sample(rates[curves.argmin(axis=1)], tuple(seeds))
calipers.record(
    "lr-range-lowest",
    lowest,
    title="Rate at which the range test's loss is lowest",
)
calipers.record(
    "lr-range-small",
    calipers.Sample(curves[:, np.searchsorted(rates, 0.003)], tuple(seeds)),
    "nats",
    title="The range test's loss at a rate of 0.003",
)

# %%
figure, axis = plt.subplots()
middle_curve = np.median(curves, axis=0)
axis.fill_between(rates, curves.min(axis=0), curves.max(axis=0), alpha=0.3, lw=0)
axis.plot(rates, middle_curve, label="median and range of seeds")
axis.axvline(lowest.mean, color="gray", ls=":", label="lowest, mean of seeds")
axis.set(
    xscale="log", xlabel="learning rate", ylabel="training loss (nats)", ylim=(0, 4)
)
figure.legend(loc="outside upper center", ncols=2, fontsize=10)
calipers.show(
    alt="Training loss while the rate grows from 0.001 to 10. It starts high and hardly moves, then falls, is lowest at a "
    f"rate of about {lowest.mean:.2f} and shoots up beyond."
)


# %% [markdown]
# Read it from left to right. Nothing happens; the loss falls; it stops falling, on average at a rate of
# {glue:text}`lr-range-lowest.mean:.2f`; it blows up. The useful rates lie on the falling part, a few times below the
# lowest point. Mind two things. The test shows a *ceiling*, not the optimum: it passes through every rate for a few steps
# only, and where its lowest point lies varies from seed to seed and with its length. And a net is no parabola: by
# {eq}`eq-lr-limit` the limit would be $2/\lambda_{\max}$, but the curvature itself moves.

# %%
def sharpness(parameters, x, y, rounds=15):
    """The largest curvature of one net's loss, by power iteration in float64."""
    parameters = [array.astype(float) for array in parameters]
    rng = np.random.default_rng(0)
    direction = [rng.normal(size=array.shape) for array in parameters]
    for _ in range(rounds):
        length = np.sqrt(sum(np.sum(part**2) for part in direction))
        direction = [part / length for part in direction]
        ends = []
        for nudge in (1e-4, -1e-4):
            moved = [a + nudge * d for a, d in zip(parameters, direction, strict=True)]
            ends.append(gradients(moved, x, y)[1])
        direction = [(up - down) / 2e-4 for up, down in zip(*ends, strict=True)]
    return np.sqrt(sum(np.sum(part**2) for part in direction))


at_start = [
    2
    / sharpness(
        side_by_side(first_weights(seed), 1),
        x_train[:1000].astype(float),
        y_train[:1000],
    )
    for seed in seeds
]
calipers.record(
    "lr-start-limit",
    calipers.Sample(np.array(at_start), tuple(seeds)),
    at_most=0.2,
    title="Largest stable rate at the first weights, 2 over the sharpness",
)

# %% [markdown]
# At the first weights $2/\lambda_{\max}$ is {glue:text}`lr-start-limit`. Constant rates of 0.2 and 0.4 are larger than
# that, and yet they train, as the [grid below](sec-lr-grid) shows. The first steps overshoot, and throw the net to where
# the valley is less steep. {cite:t}`cohen2021` watched full-batch descent live at $\lambda_{\max} \approx 2/\eta$ for
# most of its training: there the rate chooses the curvature as much as the other way round. This is also the case for a
# warm-up, according to {cite:t}`kalra2024`: it leads the net to flatter regions gently, where a larger rate can be borne.
#
# (sec-lr-lecture)=
# ## The experiment: too small, good, too large
#
# **What do 0.1, 0.001 and 0.00001 do in twenty epochs?** {cite:t}`cab420` shows these three, without saying with which
# optimiser. We take plain gradient descent first, in batches of 32, with two rates more so that every step is a factor of
# ten; then {term}`Adam` with the lecture's three.

# %%
lecture_rates = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
per_epoch = lecture_examples // 32
looks = np.unique(
    np.r_[
        np.geomspace(2, lecture_epochs * per_epoch, 25).astype(int),
        np.arange(1, lecture_epochs + 1) * per_epoch,
        lecture_epochs * per_epoch // 10,
    ]
)
every_epoch = np.searchsorted(looks, np.arange(1, lecture_epochs + 1) * per_epoch)


def lecture_run(seed, adam=False):
    """Held-back loss and accuracy of the lecture's rates, at each of the looks."""
    chosen = lecture_rates[::2] if adam else lecture_rates
    seen = []

    def watch(n, parameters, rates):
        if n + 1 in looks:
            seen.append(evaluate(parameters, x_val[:2000], y_val[:2000]))

    rates = np.repeat(np.array(chosen)[:, np.newaxis], looks[-1], axis=1)
    some = slice(0, lecture_examples)
    train(seed, rates, x_train[some], y_train[some], 32, watch, adam)
    losses, hits = zip(*seen, strict=True)
    return {"loss": np.transpose(losses), "accuracy": np.transpose(hits)}


sgd = calipers.over_seeds(lecture_run, lecture_seeds, "descent")
adam = calipers.over_seeds(lambda seed: lecture_run(seed, True), lecture_seeds, "Adam")


# %%
def at(result, row, epoch):
    """A rate's accuracy after an epoch, for every seed."""
    values = result["accuracy"].values[:, row, every_epoch[epoch - 1]]
    return calipers.Sample(values, tuple(lecture_seeds))


last, eighth = lecture_epochs, min(8, lecture_epochs)
for name, result, rows_of in (("sgd", sgd, (0, 2, 4)), ("adam", adam, (0, 1, 2))):
    for word, row in zip(("fast", "slow", "glacial"), rows_of, strict=True):
        calipers.record(
            f"lr-{name}-{word}",
            at(result, row, last),
            "%",
            examples=2000,
            title=f"Held-back accuracy after {last} epochs, {name}, {word}",
        )
calipers.record(
    "lr-sgd-fast-left",
    at(sgd, 0, last) - at(sgd, 0, eighth),
    "points",
    at_most=2,
    title="What 0.1 still gains after its eighth epoch",
)
calipers.record(
    "lr-sgd-slow-short",
    at(sgd, 0, last) - at(sgd, 2, last),
    "points",
    title="How far 0.001 is behind 0.1 after as many epochs",
)


def travelled(distance):
    """The row of the rate that has come nearest to this distance at the end."""
    ends = np.array(lecture_rates) * looks[-1]
    return int(np.abs(np.log(ends / distance)).argmin())


far = 20 * 60_000 / 32  # the lecture's steps, if its batches had Keras's default size
slow_row, glacial_row = travelled(1e-3 * far), travelled(1e-5 * far)
calipers.record(
    "lr-sgd-almost",
    at(sgd, 0, last) - at(sgd, slow_row, last),
    "points",
    between=(0.3, 4),
    title="How far the distance of the lecture's 0.001 leaves us behind 0.1",
)
calipers.record(
    "lr-sgd-nowhere",
    at(sgd, 0, last) - at(sgd, glacial_row, last),
    "points",
    at_least=15,
    title="How far the distance of the lecture's 0.00001 leaves us behind 0.1",
)
calipers.record(
    "lr-adam-fast-short",
    at(adam, 1, last) - at(adam, 0, last),
    "points",
    at_least=10,
    title="How far Adam at 0.1 is behind Adam at 0.001",
)

# %% [markdown]
# | rate | plain descent, held-back accuracy | Adam |
# |:--|:--|:--|
# | 0.1, "fast" | {glue:text}`lr-sgd-fast` | {glue:text}`lr-adam-fast` |
# | 0.001, "slow" | {glue:text}`lr-sgd-slow` | {glue:text}`lr-adam-slow` |
# | 0.00001, "glacial" | {glue:text}`lr-sgd-glacial` | {glue:text}`lr-adam-glacial` |
#
# What is slow for one optimiser is right for another, and what is good for the one wrecks the other. **A learning rate
# means nothing without the optimiser.**
#
# Now the prediction of {eq}`eq-lr-distance`. On the left each rate has a curve of its own. On the right the same numbers
# stand over the distance $S = \eta n$. If only the distance counts, the curves must fall on one.

# %%
figure, axes = plt.subplots(1, 2, figsize=(5, 3.4), sharey=True)
for row, rate in enumerate(lecture_rates):
    values = sgd["accuracy"].values[:, row]
    for axis, x_axis in zip(axes, (looks / per_epoch, looks * rate), strict=True):
        axis.fill_between(
            x_axis, values.min(axis=0), values.max(axis=0), alpha=0.3, lw=0
        )
        axis.plot(x_axis, values.mean(axis=0), label=f"{rate:g}")
axes[0].set(xlabel="epoch", ylabel="held-back accuracy (%)", ylim=(0, 95))
axes[1].set(xlabel="distance", xscale="log", xticks=[1e-3, 1, 1e3])
axes[1].minorticks_off()
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=10)
calipers.show(
    alt="Two panels with five curves of held-back accuracy, for rates from 0.1 to 0.00001. Over epochs they lie far apart, the "
    "smallest rate at the bottom. Over the distance, rate times steps, they fall on one rising curve."
)

# %%
tenth = np.searchsorted(looks, looks[-1] // 10)
ratio = sgd["loss"].values[:, 2, -1] / sgd["loss"].values[:, 1, tenth]
calipers.record(
    "lr-distance-rule",
    calipers.Sample(100 * (ratio - 1), tuple(lecture_seeds)),
    "%",
    between=(-5, 5),
    title="Loss of 0.001 after 20 epochs against 0.01 after 2, less 100 %",
)
calipers.record(
    "lr-distance-gap",
    calipers.Sample(
        100 * (sgd["loss"].values[:, 2, -1] / sgd["loss"].values[:, 1, -1] - 1),
        tuple(lecture_seeds),
    ),
    "%",
    at_least=15,
    title="The same, both after 20 epochs",
)

# %% [markdown]
# They do. The loss of 0.001 after twenty epochs differs from that of 0.01 after two by {glue:text}`lr-distance-rule`
# (after the same twenty epochs by {glue:text}`lr-distance-gap`).
#
# **An epoch is not a unit of training.** In the quick profile ours has a tenth of the lecture's steps: we take 6,000
# pictures, the lecture had 60,000. If its batches held 32, its 0.001 travelled a distance of $0.001 \cdot 20 \cdot
# 60{,}000 / 32 = 37.5$, and that is where our *0.01* ends. (In the full profile the pictures are 48,000, and 0.001 ends
# nearest.) Compared at equal distance, the lecture's slow rate is {glue:text}`lr-sgd-almost` behind 0.1: almost there.
# Its glacial one is {glue:text}`lr-sgd-nowhere` behind.
#
# (sec-lr-grid)=
# ## Nine schedules, one budget
#
# **Which schedule is best?** Each gets the same {glue:text}`lr-steps` steps with batches of 64, and the same five peaks
# to choose from. The choice is made with seeds of its own, on the held-back pictures. The shapes are those fixed above
# and were not tuned. *On plateau* looks ten times at 2,000 further pictures that nobody else sees; it is the only one
# that uses more data.
#
# | schedule | its shape, fixed beforehand | what it uses |
# |:--|:--|:--|
# | constant | none | its peak |
# | power | $c = 1$, $s = N/10$ | its peak |
# | exponential | $s = N/2$ | its peak |
# | piecewise | a tenth after $N/2$, a hundredth after $3N/4$ | its peak, $N$ |
# | on plateau | times 0.3, patience 1, ten looks | its peak, 2,000 more pictures |
# | linear, cosine | to zero at $N$ | its peak, $N$ |
# | warm-up, cosine | $m = N/10$ | its peak, $N$ |
# | one-cycle | up for {given}`45 %`, down for {given}`45 %`, out for {given}`10 %` | its peak, $N$ |
#
# To every one of them: $N$ = {glue:text}`lr-steps` steps, and {glue:text}`lr-trials` trainings for its choice.

# %%
peaks = [0.1, 0.2, 0.4, 0.8, 1.6]


def train_schedules(seed, choices):
    """Train one net for each (schedule, peak); the nets in the order of the choices."""
    n = np.arange(steps)
    rates = np.array([schedule(name, n, peak, steps) for name, peak in choices])
    places = [row for row, (name, _) in enumerate(choices) if name == "plateau"]
    plateaus = [Plateau() for _ in places]
    between_looks = max(1, steps // 10)

    def watch(n, parameters, rates):
        if places and (n + 1) % between_looks == 0:
            losses, _ = evaluate(only(parameters, places), x_watch, y_watch)
            for row, plateau, loss in zip(places, plateaus, losses, strict=True):
                rates[row, n + 1 :] *= plateau.look(loss)

    return train(seed, rates, x_train, y_train, watch=watch)[0]


choices = [(name, peak) for name in names for peak in peaks]
grid = np.mean(
    [
        evaluate(train_schedules(seed, choices), x_val, y_val)[1]
        for seed in choosing_seeds
    ],
    axis=0,
).reshape(len(names), len(peaks))
best = {name: peaks[int(row.argmax())] for name, row in zip(names, grid, strict=True)}
print("held-back accuracy (%) at a peak of", *(f"{peak:>6}" for peak in peaks))
for name, row in zip(names, grid, strict=True):
    marked = (
        f"{value:6.1f}" + "*" * (peaks[k] == best[name]) for k, value in enumerate(row)
    )
    print(f"{names[name]:<16}", *(f"{value:<8}" for value in marked))
calipers.record(
    "lr-trials",
    len(peaks) * len(choosing_seeds),
    title="Trainings spent on the choice of each schedule's peak",
)
calipers.record(
    "lr-peaks-at-edge",
    sum(peak in (peaks[0], peaks[-1]) for peak in best.values()),
    equals=0,
    title="Chosen peaks at an end of the grid",
)


# %% [markdown]
# The star marks the choice. {glue:text}`lr-peaks-at-edge` of the nine lie at an end of the grid, where a better peak
# might be outside. Now the test set, once, with new seeds. Differences are taken seed by seed: the nine nets of a seed
# share their first weights and their batches.

# %%
def final_run(seed):
    nets = train_schedules(seed, [(name, best[name]) for name in names])
    return dict(zip(names, evaluate(nets, x_test, y_test)[1], strict=True))


final = calipers.over_seeds(final_run, seeds, "schedules")
claimed = {"linear", "cosine", "warm", "one-cycle"}  # set before the test set was read
for name in names:
    against = None if name == "constant" else "lr-test-constant"
    calipers.record(
        f"lr-test-{name}",
        final[name],
        "%",
        examples=len(x_test),
        title=f"Test accuracy, {names[name]}",
        greater_than=against if name in claimed else None,
        compared_with=None if name in claimed else against,
    )
calipers.record(
    "lr-test-warm-again",
    final["warm"],
    "%",
    examples=len(x_test),
    compared_with="lr-test-cosine",
    title="Test accuracy, warm-up and cosine beside cosine alone",
)
calipers.record(
    "lr-test-cycle-again",
    final["one-cycle"],
    "%",
    examples=len(x_test),
    compared_with="lr-test-warm",
    title="Test accuracy, one-cycle beside warm-up and cosine",
)

# %% [markdown]
# | schedule | test accuracy | against constant (points) | that is |
# |:--|:--|:--|:--|
# | constant | {glue:text}`lr-test-constant` | | |
# | power | {glue:text}`lr-test-power` | {glue:text}`lr-test-power.difference:.2f` ± {glue:text}`lr-test-power.noise:.2f` | {glue:text}`lr-test-power.verdict` |
# | exponential | {glue:text}`lr-test-exponential` | {glue:text}`lr-test-exponential.difference:.2f` ± {glue:text}`lr-test-exponential.noise:.2f` | {glue:text}`lr-test-exponential.verdict` |
# | piecewise | {glue:text}`lr-test-piecewise` | {glue:text}`lr-test-piecewise.difference:.2f` ± {glue:text}`lr-test-piecewise.noise:.2f` | {glue:text}`lr-test-piecewise.verdict` |
# | on plateau | {glue:text}`lr-test-plateau` | {glue:text}`lr-test-plateau.difference:.2f` ± {glue:text}`lr-test-plateau.noise:.2f` | {glue:text}`lr-test-plateau.verdict` |
# | linear to zero | {glue:text}`lr-test-linear` | {glue:text}`lr-test-linear.difference:.2f` ± {glue:text}`lr-test-linear.noise:.2f` | {glue:text}`lr-test-linear.verdict` |
# | cosine | {glue:text}`lr-test-cosine` | {glue:text}`lr-test-cosine.difference:.2f` ± {glue:text}`lr-test-cosine.noise:.2f` | {glue:text}`lr-test-cosine.verdict` |
# | warm-up, cosine | {glue:text}`lr-test-warm` | {glue:text}`lr-test-warm.difference:.2f` ± {glue:text}`lr-test-warm.noise:.2f` | {glue:text}`lr-test-warm.verdict` |
# | one-cycle | {glue:text}`lr-test-one-cycle` | {glue:text}`lr-test-one-cycle.difference:.2f` ± {glue:text}`lr-test-one-cycle.noise:.2f` | {glue:text}`lr-test-one-cycle.verdict` |

# %%
figure, axis = plt.subplots(figsize=(4.8, 3.8))
for place, name in enumerate(names):
    sample = final[name]
    low, high = sample.values.min(), sample.values.max()
    bar = {"color": calipers.COLOURS["sky"], "lw": 8, "alpha": 0.5}
    axis.plot([low, high], [place, place], solid_capstyle="butt", **bar)
    axis.plot(
        sample.values, [place] * len(seeds), "o", ms=4, color=plt.rcParams["text.color"]
    )
    axis.plot(
        sample.mean, place, "|", ms=16, mew=3, color=calipers.COLOURS["vermilion"]
    )
axis.set_yticks(range(len(names)), names.values())
axis.invert_yaxis()
axis.set_xlabel("test accuracy (%)")
means = ", ".join(f"{names[name]} {final[name].mean:.1f} %" for name in names)
calipers.show(
    alt="Test accuracy of nine schedules, one row each; a dot for every seed, a bar from the lowest to the highest, a stroke at the "
    f"mean. Means: {means}."
)


# %% [markdown]
# Every schedule that ends near zero *and* keeps its rate up for long beats the constant rate. The power and the
# exponential schedule fall too early in the shapes that we gave them. Among those at the top the differences are small.
# Warm-up and cosine beside the cosine alone: {glue:text}`lr-test-warm-again.difference:.2f` ±
# {glue:text}`lr-test-warm-again.noise:.2f` points ({glue:text}`lr-test-warm-again.verdict`). One-cycle beside warm-up and
# cosine: {glue:text}`lr-test-cycle-again.difference:.2f` ± {glue:text}`lr-test-cycle-again.noise:.2f`
# ({glue:text}`lr-test-cycle-again.verdict`). That the rate falls to zero late matters more than along which curve. And
# all of it is one small net with a short budget: what a schedule gains depends on how long one trains.
#
# (sec-lr-procedure)=
# ## A procedure to follow
#
# {cite:t}`schonhuth2019` gives a strategy: the largest rate that does not oscillate, and then decrease it. When does
# training oscillate? Look at the loss on the same 2,000 training pictures now and then. Add up by how much it rose
# between looks, and divide by how much it fell. At 0 the loss only falls; at 1 it gives back all that it gains. Call that
# the {term}`give-back`.
#
# 1. Run a **range test**. Take its lowest point as the largest candidate, and halve it five times.
# 2. Train every candidate for **a fifth of the budget**, and look at the loss twelve times.
# 3. Go up from the smallest candidate. Stop before the first whose **give-back exceeds a quarter**.
# 4. Train at that rate, **falling linearly to zero**.
#
# The quarter was set with other seeds. Steps 1 and 2 cost less than two full trainings; the grid above took five with
# every seed.

# %%
def give_back(looks):
    """Rises over falls along the first axis: 0 only falls, 1 gives all back."""
    change = np.diff(looks, axis=0)
    falls = np.sum(np.maximum(-change, 0), axis=0)
    return np.sum(np.maximum(change, 0), axis=0) / np.maximum(falls, 1e-12)


def largest_calm(candidates, scores, limit=0.25):
    """The largest rate below the first one (from below) that oscillates."""
    chosen = min(candidates)
    for rate, score in sorted(zip(candidates, scores, strict=True)):
        if not score <= limit:
            break
        chosen = rate
    return chosen


def procedure(seed):
    rates, smooth = tests[list(seeds).index(seed)]  # run above
    candidates = rates[smooth.argmin()] / 2.0 ** np.arange(6)
    losses = []

    def watch(n, parameters, rates):
        if (n + 1) % (trial_steps // 12) == 0:
            losses.append(evaluate(parameters, x_train[:2000], y_train[:2000])[0])

    trial = np.repeat(candidates[:, np.newaxis], trial_steps, axis=1)
    train(seed, trial, x_train, y_train, watch=watch)
    scores = give_back(np.minimum(losses, 1e3))
    rate = largest_calm(candidates, scores)
    n = np.arange(steps)
    both = [schedule(name, n, rate, steps) for name in ("constant", "linear")]
    nets, _ = train(seed, both, x_train, y_train)
    constant, falling = evaluate(nets, x_test, y_test)[1]
    return {
        "candidates": candidates,
        "scores": scores,
        "rate": rate,
        "constant": constant,
        "falling": falling,
    }


found = calipers.over_seeds(procedure, seeds, "procedure")
calipers.record("lr-procedure-rate", found["rate"], title="The procedure's rate")
calipers.record(
    "lr-procedure-constant",
    found["constant"],
    "%",
    examples=len(x_test),
    title="Test accuracy at the procedure's rate, constant",
)
calipers.record(
    "lr-procedure-falling",
    found["falling"],
    "%",
    examples=len(x_test),
    greater_than="lr-procedure-constant",
    title="Test accuracy of the procedure, rate falling to zero",
)
calipers.record(
    "lr-procedure-grid",
    found["falling"],
    "%",
    examples=len(x_test),
    compared_with="lr-test-linear",
    title="Test accuracy of the procedure beside the tuned linear decay",
)

# %%
figure, axis = plt.subplots()
for row in range(len(seeds)):
    label = {"label": "a seed"} if row == 0 else {}
    scores = np.maximum(found["scores"].values[row], 0.003)
    axis.plot(
        found["candidates"].values[row],
        scores,
        "o-",
        ms=4,
        alpha=0.7,
        color=calipers.COLOURS["blue"],
        **label,
    )
axis.axhline(0.25, color=calipers.COLOURS["vermilion"], ls="--", label="a quarter")
axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="give-back")
axis.set_xticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
axis.minorticks_off()
axis.legend()
calipers.show(
    alt="Give-back against the learning rate, a line for every seed, both axes logarithmic. It rises with the rate from nearly "
    f"nothing and crosses a quarter on average near a rate of {found['rate'].mean:.2f}."
)

# %% [markdown]
# The procedure settles at a rate of {glue:text}`lr-procedure-rate`. Left constant, it reads
# {glue:text}`lr-procedure-constant` of the test pictures; falling to zero {glue:text}`lr-procedure-falling`, a gain of
# {glue:text}`lr-procedure-falling.difference:.2f` ± {glue:text}`lr-procedure-falling.noise:.2f` points. Against the tuned
# linear decay of the grid it is {glue:text}`lr-procedure-grid.difference:.2f` ± {glue:text}`lr-procedure-grid.noise:.2f`
# points: {glue:text}`lr-procedure-grid.verdict`.
#
# ## What the lectures said
#
# The [ledger](claims.md) keeps the account.
#
# - **0.1 converges after about 8 epochs, 0.001 almost after 20, 0.00001 nowhere near** {cite}`cab420`. With plain
#   descent, yes, if *almost* means within four points. After the eighth epoch 0.1 gains {glue:text}`lr-sgd-fast-left`. At
#   the distance that the lecture's 0.001 travelled we are {glue:text}`lr-sgd-almost` behind it, at that of 0.00001
#   {glue:text}`lr-sgd-nowhere`. But it is a statement about its data set: after twenty of *our* shorter epochs 0.001 is
#   {glue:text}`lr-sgd-slow-short` behind. And about its optimiser: with Adam 0.001 is the good rate, and 0.1 ends
#   {glue:text}`lr-adam-fast-short` below it. (The net and the pictures here are smaller; the lecture names neither
#   optimiser nor batch size.)
# - **Power schedule** {cite}`trinh2021,blaettchen`: half after $s$ steps, a third after $2s$. So it is, with $c = 1$;
#   with another $c$ it would not ({glue:text}`lr-power-fractions` of four fractions off).
# - **Exponential schedule** {cite}`trinh2021,blaettchen`: ten times smaller every $s$ steps
#   ({glue:text}`lr-exponential-tenths` of four off).
# - **Piecewise constant, and reduce on plateau** {cite}`trinh2021`: in rates both are what Keras does,
#   {glue:text}`lr-plateau-piecewise` disagreements. In accuracy see the table.
# - **The largest rate without oscillation, then decrease it** {cite}`schonhuth2019`. As a procedure, it gains
#   {glue:text}`lr-procedure-falling.difference:.2f` ± {glue:text}`lr-procedure-falling.noise:.2f` points over the same
#   rate held constant.
# - **A slip:** `SGD(lr=0.1, decay=1e-3)` {cite}`trinh2021` is of an older Keras; the next section runs it.

# %%
s = 50
fractions = power(np.array([0, s, 2 * s, 3 * s]), 1.0, s) - 1 / np.arange(1, 5)
calipers.record(
    "lr-power-fractions",
    int(np.sum(np.abs(fractions) > 1e-12)),
    equals=0,
    title="Fractions 1, 1/2, 1/3, 1/4 that the power schedule misses",
)
tenths = exponential(np.array([0, s, 2 * s, 3 * s]), 1.0, s) * 10.0 ** np.arange(4) - 1
calipers.record(
    "lr-exponential-tenths",
    int(np.sum(np.abs(tenths) > 1e-9)),
    equals=0,
    title="Powers of a tenth that the exponential schedule misses",
)

# %% [markdown]
# (sec-lr-traps)=
# ## Where it goes wrong
#
# **The old spellings.** One of the two fails loudly. The other only warns, and then trains at a constant rate.

# %%
try:
    keras.optimizers.SGD(lr=0.1)
except ValueError as error:
    refused = str(error)
print("lr=0.1:     ", refused)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    old = keras.optimizers.SGD(learning_rate=0.1, decay=1e-3)
print("decay=1e-3: ", *(w.message for w in caught if "decay" in str(w.message)))
new = keras.optimizers.SGD(
    schedules.InverseTimeDecay(0.1, decay_steps=1, decay_rate=1e-3)
)
for optimizer in (old, new):
    optimizer.iterations.assign(1000)
ignored, obeyed = (
    float(keras.ops.convert_to_numpy(o.learning_rate)) for o in (old, new)
)
print(f"rate at step 1000: {ignored:.3f} with decay=, {obeyed:.3f} with a schedule")
calipers.record(
    "lr-old-decay",
    ignored / 0.1,
    between=(0.999, 1.001),
    title="Rate at step 1000 over the first, with the old decay=1e-3",
)
calipers.record(
    "lr-new-decay",
    obeyed / 0.1,
    between=(0.499, 0.501),
    title="The same with InverseTimeDecay",
)
old.lr = 0.5  # no error, no effect: an attribute that nobody reads
assert abs(float(keras.ops.convert_to_numpy(old.learning_rate)) - 0.1) < 1e-6

# %% [markdown]
# The replacement for `decay=d` is `InverseTimeDecay(rate, decay_steps=1, decay_rate=d)`: the power schedule with $s =
# 1/d$. And `optimizer.lr = ...` is worse still: nothing complains, nothing happens. Write `optimizer.learning_rate =
# ...`.
#
# **A schedule and a plateau at once.** Each wants to own the rate. `ReduceLROnPlateau` tries to set it, and an optimiser
# with a schedule object does not let it. The error comes only when the first plateau does, perhaps hours into a training.

# %%
both = tiny_model(keras.optimizers.SGD(schedules.CosineDecay(0.1, 100)))
plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1)
plateau.set_model(both)
plateau.on_train_begin()
heard = 0
try:
    for loss in (1.0, 0.9, 0.8, 0.8):
        plateau.on_epoch_end(heard, {"loss": loss})
        heard += 1
except TypeError as error:
    print(f"after {heard} epochs without complaint:", str(error)[:72], "...")
calipers.record(
    "lr-plateau-late",
    heard,
    equals=3,
    title="Epochs that pass before schedule and plateau collide",
)

# %% [markdown]
# **Steps, not epochs; and warm-up steps come on top.** `CosineDecay(0, decay_steps=N, warmup_target=peak,
# warmup_steps=m)` ends at step $N + m$. Whoever passes the whole budget as `decay_steps` stops before the rate is at
# zero; whoever passes *epochs* is at zero within the first.

# %%
budget, m = 100, 30
slip = schedules.CosineDecay(0.0, budget, warmup_target=0.5, warmup_steps=m)
right = schedules.CosineDecay(0.0, budget - m, warmup_target=0.5, warmup_steps=m)
left = [float(keras.ops.convert_to_numpy(s(budget))) / 0.5 for s in (slip, right)]
calipers.record(
    "lr-warm-up-left",
    100 * left[0],
    "% of the peak",
    at_least=15,
    title="Rate at the last step when warm-up is not subtracted",
)
assert left[1] < 1e-6

# %% [markdown]
# The rate at the last step is then {glue:text}`lr-warm-up-left`, for a warm-up of 30 in 100 steps.
#
# ## Exercises
#
# ```{exercise} Read a schedule
# :label: ex-lr-read
#
# A power schedule starts at 0.4 with $s = 200$ and $c = 1$. After how many steps is the rate 0.1? After how many 0.01?
# Answer the same for an exponential schedule with $s = 200$. Which of the two is still moving the weights after 2,000
# steps?
# ```
#
# ````{solution-start} ex-lr-read
# :class: dropdown
# ````
#
# Power: $1 + n/200 = 4$ gives 600 steps, and $1 + n/200 = 40$ gives 7,800. Exponential: $n = 200 \log_{10} 4 \approx 120$
# and $200 \log_{10} 40 \approx 320$. After 2,000 steps the exponential one stands at $0.4 \cdot 10^{-10}$: it has
# stopped. The power schedule is at 0.036.

# %%
assert np.allclose(power(np.array([600, 7800]), 0.4, 200), [0.1, 0.01])
crossings = 200 * np.log10([4, 40])
assert np.allclose(exponential(crossings, 0.4, 200), [0.1, 0.01])
assert exponential(2000, 0.4, 200) < 1e-10 < power(2000, 0.4, 200)


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} The edge at 2/λ
# :label: ex-lr-edge
#
# Let $L = \tfrac12 (4 w_1^2 + 0.1 w_2^2)$. Which rates converge? At the largest of them, how many steps does $w_2$ need
# to halve? Check by running it.
# ```
#
# ````{solution-start} ex-lr-edge
# :class: dropdown
# ````
#
# The steeper direction decides: $\eta < 2/4 = 0.5$. At 0.5 the other is multiplied by $1 - 0.05$ a step, so it takes $\ln
# 2 / -\ln 0.95 \approx 13.5$ steps to halve. One rate for all directions is what makes descent slow in ravines.

# %%
def descend(rate, count):
    w = np.array([1.0, 1.0])
    for _ in range(count):
        w = w - rate * np.array([4.0, 0.1]) * w
    return w


assert abs(descend(0.49, 500)[0]) < 1e-4 < 1 < abs(descend(0.51, 500)[0])
assert descend(0.5, 14)[1] < 0.5 < descend(0.5, 13)[1]

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} The floor of a constant rate
# :label: ex-lr-floor
#
# Check {eq}`eq-lr-floor` by throwing dice: 20,000 weights, each with its own noise, $\lambda = 1$, $s = 1$, $\eta = 0.5$.
# Then let $\eta_n$ follow {eq}`eq-lr-derived` from $v_0 = 1$ for 100 steps. How far below the floor do you get?
# ```
#
# ````{solution-start} ex-lr-floor
# :class: dropdown
# ````
#
# The floor is $0.5 / 1.5 = 1/3$. With the best schedule $1/v_n = 1 + n$, so $v_{100} = 1/101$.

# %%
dice = np.random.default_rng(7)


def mean_square(rates_of_steps, weights=20_000):
    w = dice.normal(size=weights)
    for rate in rates_of_steps:
        w = w - rate * (w + dice.normal(size=weights))
    return np.mean(w**2)


floor, derived = mean_square([0.5] * 100), mean_square(1 / (2 + np.arange(100)))
print(f"constant: {floor:.3f} (1/3), derived: {derived:.4f} (1/101)")
assert abs(floor - 1 / 3) < 0.02
assert abs(derived - 1 / 101) < 0.001


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Warm-up, stable, decay
# :label: ex-lr-wsd
#
# Write a schedule that rises for 10 % of the budget, stays, and falls linearly in the last 20 %. What does it allow that
# a cosine does not? {cite:t}`hagele2024` compare the two. Check that its sum is larger than the cosine's at the same
# peak.
# ```
#
# ````{solution-start} ex-lr-wsd
# :class: dropdown
# ````
#
# Until the fall begins, the rates do not depend on the length of the training. You can decide late to go on, or branch
# off a falling end at several lengths, from one run. A cosine has to know its end from the start.

# %%
def warm_stable_decay(n, peak, end):
    return np.interp(n, [0, 0.1 * end, 0.8 * end, end], [0, peak, peak, 0])


n_wsd = np.arange(1000)
assert np.isclose(warm_stable_decay(n_wsd, 0.5, 1000).sum(), 0.5 * 850, rtol=0.01)
assert np.isclose(cosine(n_wsd, 0.5, 1000).sum(), 0.5 * 500, rtol=0.01)
longer = warm_stable_decay(n_wsd[100:800], 0.5, 2000)[100:]
assert np.allclose(longer, warm_stable_decay(n_wsd[200:800], 0.5, 1000))

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} The length of a range test
# :label: ex-lr-length
#
# Run the range test with 50 steps and with 800. Where is the loss lowest in each? Why does the longer test reach a lower
# loss?
# ```
#
# ````{solution-start} ex-lr-length
# :class: dropdown
# ````
#
# The rates are the same, so the distance {eq}`eq-lr-distance` is sixteen times as long: at every rate the longer test has
# learnt more. A range test mixes the rate with the time it took to get there, which is one reason why it gives a ceiling
# and no optimum.

# %%
short_test, long_test = (
    range_test(100, calipers.choose(smoke=count // 5, quick=count, full=count))
    for count in (50, 800)
)
for rates_seen, smooth in (short_test, long_test):
    place = smooth.argmin()
    print(f"lowest loss {smooth[place]:.2f} at a rate of {rates_seen[place]:.2f}")
assert long_test[1].min() < short_test[1].min()

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Patience
# :label: ex-lr-patience
#
# `told` is a list of losses. How often does *on plateau* lower the rate for a patience of 1, 2 and 3? Why may a patience
# of 1 be too nervous?
# ```
#
# ````{solution-start} ex-lr-patience
# :class: dropdown
# ````
#
# A loss on a few thousand pictures is noisy. With a patience of 1 a single unlucky look lowers the rate, and it never
# comes back.

# %%
drops = []
for patience in (1, 2, 3):
    watcher = Plateau(factor=0.3, patience=patience)
    drops.append(sum(watcher.look(loss) < 1 for loss in told))
print(drops)
assert drops[0] > drops[1] > drops[2]

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Project: was the power schedule treated fairly?
# :label: ex-lr-project
#
# We fixed $s = N/10$. Tune it: try $s$ of $N/30$, $N/10$, $N/3$ and $N$ at three peaks, on the held-back pictures with
# the choosing seeds. Does the power schedule catch up with linear decay? What would be fair to linear decay then?
# ```
#
# ````{solution-start} ex-lr-project
# :class: dropdown
# ````
#
# Slower decay helps, because our budget is short. But now the power schedule has had twelve trials and the linear one
# five. To be fair one must give both the same number, for instance by letting the linear schedule end at a share of its
# peak that is tuned as well.

# %%
few_steps = steps // calipers.choose(smoke=1, quick=2, full=1)
n_power = np.arange(few_steps)
settings = [(s, peak) for s in (1 / 30, 1 / 10, 1 / 3, 1) for peak in (0.2, 0.4, 0.8)]
trials = [power(n_power, peak, s * few_steps) for s, peak in settings]
trials += [linear(n_power, peak, few_steps) for peak in (0.2, 0.4, 0.8)]
nets, _ = train(choosing_seeds[0], trials, x_train, y_train)
scores = evaluate(nets, x_val, y_val)[1]
for k, s in enumerate(("N/30", "N/10", "N/3", "N", "linear")):
    print(f"{s:>6}: best of three {scores[3 * k : 3 * k + 3].max():.1f} % (held back)")

# %% [markdown]
# ````{solution-end}
# ````
#
# ## Summary
#
# - Curvature limits the rate from above, at $2/\lambda_{\max}$; noise makes every constant rate stop at a floor; and
#   below the limit only the distance $\sum \eta_n$ counts.
# - 0.001 after twenty epochs is where 0.01 is after two. Which rate is "slow" depends on the optimiser.
# - A schedule is a formula in the number of the *step*. Seven formulas and two callbacks agree with Keras as far as
#   float32 reaches.
# - At one budget and with tuned peaks, decay to zero beats the best constant rate by
#   {glue:text}`lr-test-linear.difference:.1f` ± {glue:text}`lr-test-linear.noise:.1f` points. Which decay matters less.
# - A range test gives a ceiling. Halve it until the loss stops giving back what it gains, then let the rate fall.
# - Keras refuses `lr=`, ignores `decay=` with a warning, and says nothing at all to `optimizer.lr = ...`.
#
# **Further reading.** {cite:t}`smith2017cyclical` has the range test, {cite:t}`smith2018superconvergence` the one-cycle
# schedule, {cite:t}`loshchilov2017` the cosine. {cite:t}`wu2018horizon` show why tuning for a short horizon picks rates
# that are too small. {cite:t}`cohen2021` measure the sharpness during training, {cite:t}`kalra2024` what a warm-up does
# to it. {cite:t}`bengio2012` has practical advice that aged well.
#
# ```{provenance}
# ```
