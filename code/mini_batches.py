# Written from book/mini_batches.md by `make scripts`. Edit that page, not this file.

# %% [markdown]
# (ch-mini-batches)=
# # Mini-batches
#
# **How many examples should one step look at?** As many as still tell it something new. A net on clothes needs
# {glue:text}`mb-steps-4.mean:,.0f` steps to {given}`80 %` in batches of 4 and {glue:text}`mb-steps-256.mean:,.0f` in batches of
# 256. From there on more examples hardly help: batches of 1,024 still need {glue:text}`mb-steps-1024.mean:,.0f`. One
# measured number, the gradient's {term}`noise scale`, foretells where the gain ends. And the famous weakness of large
# batches on new images? It comes and goes with the budget that we allow: with equal epochs they lose, with equal steps
# they win, and with enough of both, small against large, there is {glue:text}`mb-fair-long-16.verdict`.
#
# :::{admonition} Before you start
# :class: tip
#
# **You will learn** why a few examples can stand for all; how much noise they bring; how batch size and learning rate belong
# together, and where that stops; and how to compare two batch sizes without fooling yourself.
#
# **You need** {ref}`the first network <ch-first-network>`: loss, gradient, backpropagation. A little probability: mean and
# variance. Words set like {term}`epoch` lead to the [glossary](glossary.md), symbols to the [notation](notation.md) page.
#
# **It takes** half an hour to read. The code has a budget of {given}`75 seconds` in the quick profile on two CPU cores;
# the full one has not been timed yet. The last line of this page says what it took.
# :::

# %%
import itertools
import math
import os
import time
import tracemalloc

# One core for NumPy: our matrices are small, and two cores would wait for each other.
# It has to be said before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
from keras import layers

import calipers

calipers.style()

# %% [markdown]
# Every budget of this chapter stands in one cell; the {term}`profile` picks a column.

# %%
seeds = calipers.choose(smoke=[0], quick=[0, 1, 2], full=[0, 1, 2, 3, 4])
examples = calipers.choose(smoke=1_200, quick=10_000, full=50_000)
held_back = calipers.choose(smoke=300, quick=2_500, full=10_000)
tested = calipers.choose(smoke=300, quick=10_000, full=10_000)
pool = calipers.choose(smoke=256, quick=4_096, full=16_384)
draws = calipers.choose(smoke=256, quick=20_000, full=200_000)
check_every = calipers.choose(smoke=128, quick=1_024, full=5_000)
target = calipers.choose(smoke=0, quick=80, full=84)
epochs = calipers.choose(
    smoke={4: 1, 16: 1, 64: 1, 256: 1, 1024: 4},
    quick={4: 2, 16: 3, 64: 5, 256: 11, 1024: 24},
    full={4: 2, 16: 3, 64: 5, 256: 11, 1024: 24},
)
rounds = calipers.choose(smoke=2, quick=6, full=30)
few_examples = calipers.choose(smoke=600, quick=4_000, full=10_000)
few_steps = calipers.choose(smoke=64, quick=600, full=5_000)

# %% [markdown]
# The data are Fashion-MNIST's clothes {cite}`xiao2017`, one row of 784 grey values from 0 to 1 each. We train on the first
# images and hold back the last: whatever is *chosen* on this page is chosen on them. The test images are used once, at the end.

# %%
(x_train, y_train), (x_test, y_test) = calipers.datasets.load("fashion_mnist")
x_train, x_test = (x.reshape(len(x), -1) / np.float32(255) for x in (x_train, x_test))
y_train, y_test = y_train.astype(int), y_test.astype(int)
x_val, y_val = x_train[-10_000:][:held_back], y_train[-10_000:][:held_back]
x_train, y_train = x_train[:examples], y_train[:examples]
x_test, y_test = x_test[:tested], y_test[:tested]
x_train.shape, x_val.shape, x_test.shape

# %% [markdown]
# ## One derivation for three methods
#
# **What do full-batch, single-example and mini-batch descent have in common?** Everything but one number. The loss is a mean over
# $N$ examples, so its gradient is one too. Let $w$ be all the parameters of a net and $g_i$ the gradient of the loss on example
# $i$ alone:
#
# $$ L(w) = \frac1N \sum_{i=1}^{N} L_i(w) , \qquad G = \nabla L(w) = \frac1N \sum_{i=1}^{N} g_i . $$ (eq-mb-mean)
#
# Now draw $B$ of the examples at random, average over these, and step:
#
# $$ g_B = \frac1B \sum_{i \in \text{batch}} g_i , \qquad w \leftarrow w - \eta\, g_B . $$ (eq-mb-step)
#
# With $B = N$ this is *full-batch* gradient descent, and $g_B = G$. With $B = 1$ it is *stochastic* gradient descent in
# the strict sense of the word, in the manner of {cite:t}`robbins1951`. Between them lie
# {term}`mini-batches <mini-batch>`. Every example has the same chance to be drawn, so whatever $B$ is,
# $\operatorname{E} g_B = G$: **a batch is right on average.** The three differ in how far they stray.
#
# ### How far a batch strays
#
# How far is $g_B$ from $G$, in the mean of the squared distance? Let one example stray by
#
# $$ S = \frac1N \sum_i \lVert g_i - G \rVert^2 = \frac1N \sum_i \lVert g_i \rVert^2 - \lVert G \rVert^2 . $$ (eq-mb-noise)
#
# Square the sum in {eq}`eq-mb-step`. It has $B$ terms $\lVert g_i - G \rVert^2$, each worth $S$ on average, and $B(B-1)$
# products $(g_i - G) \cdot (g_j - G)$ of two places in the batch. If we draw *with replacement*, the two are independent
# and the products vanish on average. If we deal the examples like cards, *without replacement*, they do not: all $N$
# deviations together add up to zero, so the square of their sum, $N S + \sum_{i \ne j} (g_i - G) \cdot (g_j - G)$, is
# zero too, and one product is worth $-S/(N-1)$. Together
#
# $$ \operatorname{E} \lVert g_B - G \rVert^2 = \frac{S}{B} \ \text{ with replacement}, \qquad
#    \frac{S}{B} \cdot \frac{N - B}{N - 1} \ \text{ without} . $$ (eq-mb-variance)
#
# Four times the work halves the error. That is the whole case for small batches: accuracy in the gradient is bought at a
# miserable rate of exchange. And the second factor is near 1 until $B$ comes near $N$; then it takes the noise away, as
# it has to.
#
# (sec-mb-rate)=
# ### The rate that fits a batch
#
# **How long a step does so noisy a gradient deserve?** Follow the loss along one step, to second order. For simplicity
# let the loss curve equally in all directions, with second derivative $\lambda$. (Otherwise weights enter the formulas,
# and their shape stays {cite}`mccandlish2018`.) On average over the batches
#
# $$ \operatorname{E} L(w - \eta g_B) - L(w) \approx - \eta \lVert G \rVert^2
#    + \frac{\lambda \eta^2}{2} \left( \lVert G \rVert^2 + \frac{S}{B} \right) . $$ (eq-mb-progress)
#
# The noise costs nothing in the first term and everything in the second. Set the derivative with respect to $\eta$ to
# zero. With one new letter,
#
# $$ B_{\text{noise}} = \frac{S}{\lVert G \rVert^2} , $$ (eq-mb-scale)
#
# the best rate, and the steps that it takes to get anywhere, are
#
# $$ \eta(B) = \frac{\eta_{\max}}{1 + B_{\text{noise}} / B} , \qquad
#    \text{steps}(B) = s_{\min} \left( 1 + \frac{B_{\text{noise}}}{B} \right) , $$ (eq-mb-scaling)
#
# where $\eta_{\max} = 1/\lambda$ and $s_{\min}$ are what a batch without noise would take. (Put the best rate back into
# {eq}`eq-mb-progress`: a step lowers the loss by $\frac12 \eta(B) \lVert G \rVert^2$, and the steps are inverse to that.)
# $B_{\text{noise}}$ is the {term}`noise scale`: the batch whose noise is as large as the gradient itself. Read
# {eq}`eq-mb-scaling` in its two limits.
#
# - **Far below the noise scale**, $\eta \approx \eta_{\max} B / B_{\text{noise}}$: twice the batch, twice the rate, half
#   the steps, the same number of epochs. This is the {term}`linear scaling rule` {cite}`goyal2017`.
# - **Far above it**, rate and steps stand still. A larger batch only costs more. There the ceiling $\eta_{\max}$ belongs
#   to the *curvature*, and no batch lifts it.
#
# The examples used, $B \cdot \text{steps} = s_{\min} (B + B_{\text{noise}})$, are never fewer for a larger batch. So we
# have three predictions to test: the $1/B$ of {eq}`eq-mb-variance`, the bend in {eq}`eq-mb-scaling`, and its place.
#
# ### Walk downhill yourself
#
# Two parameters, 64 examples, a straight line to fit. The ellipses are lines of equal loss. One epoch costs the same
# whatever the batch, so each walk gets sixteen epochs or 64 steps, whichever is less.

# %%
rng = np.random.default_rng(3)
toy_x = rng.normal(size=(64, 2)) * [1.5, 0.6]
toy_y = toy_x @ [1.0, -1.0] + rng.normal(0, 1.0, 64)
hessian = toy_x.T @ toy_x / 64
lowest = np.linalg.solve(hessian, toy_x.T @ toy_y / 64)


def walk(batch_size, rate):
    """The points that descent visits on the toy loss; it ends where it leaves the picture."""
    rng = np.random.default_rng(5)
    point, points, order = np.array([-1.2, 0.8]), [], []
    for _ in range(min(64, 16 * 64 // batch_size) + 1):
        points.append(point)
        if len(order) < batch_size:
            order = rng.permutation(64)
        batch, order = order[:batch_size], order[batch_size:]
        errors = toy_x[batch] @ point - toy_y[batch]
        point = point - rate * toy_x[batch].T @ errors / batch_size
    points = np.array(points)
    points[np.abs(points).max(axis=1).cumsum() > 1e3] = np.nan
    return np.round(np.where(np.abs(points) < 4, points, np.nan), 2)


turn = np.linspace(0, 2 * np.pi, 60)
circle = np.linalg.solve(np.linalg.cholesky(hessian).T, [np.cos(turn), np.sin(turn)])
rings = [lowest + r * circle.T for r in (0.25, 0.6, 1, 1.5, 2.1, 2.8)]
rings = np.round(np.concatenate([np.r_[ring, [[np.nan] * 2]] for ring in rings]), 2)

toy_sizes, toy_rates = [1, 4, 16, 64], [0.05, 0.1, 0.2, 0.4, 0.6]


def trace(points):
    return go.Scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="lines+markers",
        line={"color": calipers.COLOURS["vermilion"]},
        marker={"size": 5},
    )


interactive = go.Figure(
    [
        go.Scatter(x=rings[:, 0], y=rings[:, 1], mode="lines", line={"color": "gray"}),
        trace(walk(1, 0.1)),
    ]
)
interactive.frames = [
    go.Frame(data=[trace(walk(size, rate))], traces=[1])
    for size, rate in itertools.product(toy_sizes, toy_rates)
]
interactive.update_layout(
    height=360,
    showlegend=False,
    xaxis={"title": "first parameter", "range": [-2, 3.4]},
    yaxis={"title": "second parameter", "range": [-3.4, 2]},
)
static, axis = plt.subplots()
axis.plot(rings[:, 0], rings[:, 1], color="gray", lw=0.8)
for size, mark in ((1, ":"), (4, "--"), (64, "-")):
    points = walk(size, 0.2)
    axis.plot(points[:, 0], points[:, 1], mark, lw=1.5, label=f"batches of {size}")
axis.set(xlabel="first parameter", ylabel="second parameter")
axis.set(xlim=(-2, 3.4), ylim=(-3.4, 2))
axis.legend(fontsize=10)
calipers.show_interactive(
    interactive,
    static,
    knobs={
        "batch size": [str(size) for size in toy_sizes],
        "learning rate": [str(rate) for rate in toy_rates],
    },
    start={"learning rate": "0.1"},
    alt="The path of descent over ellipses of equal loss; sliders choose the batch size and the "
    "learning rate. In batches of one the path staggers towards the middle and goes on "
    "staggering there, the wider the larger the rate. In batches of 64 it is a smooth curve into the middle, which "
    "at the small rates stops on the way, for want of steps, and at the largest zigzags.",
)


# %% [markdown]
# Set the rate to 0.6: the full batch still gets home, zigzagging, and the single example is thrown about. Set it to 0.05:
# now the full batch runs out of epochs. Each batch size has a rate of its own. A comparison at *one* rate compares
# nothing.
#
# (sec-mb-scratch)=
# ## From scratch in NumPy
#
# The net is dense, 784-32-10 with ReLU, as in {ref}`the first network <sec-first-backprop>`. Again every array has a
# first axis that counts *nets*, so that nets with different learning rates train side by side.

# %%
def random_net(seed, sizes, copies=1, dtype="float32"):
    """He's weights and no bias for two dense layers, as often as asked: [w1, b1, w2, b2]."""
    rng, net = np.random.default_rng(seed), []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weights = math.sqrt(2 / fan_in) * rng.normal(size=(1, fan_in, fan_out))
        net += [np.repeat(weights, copies, axis=0), np.zeros((copies, 1, fan_out))]
    return [array.astype(dtype) for array in net]


def forward(net, x):
    """The logits, and the hidden layer's outputs."""
    w1, b1, w2, b2 = net
    hidden = np.maximum(x @ w1 + b1, 0)
    return hidden @ w2 + b2, hidden


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def deltas(net, x, labels):
    """For every example alone: its loss, and that loss's slopes at both layers."""
    logits, hidden = forward(net, x)
    logits = logits - logits.max(axis=-1, keepdims=True)
    row = np.arange(len(labels))
    losses = np.log(np.exp(logits).sum(axis=-1)) - logits[:, row, labels]
    above = softmax(logits)
    above[:, row, labels] -= 1
    below = above @ net[2].swapaxes(-1, -2) * (hidden > 0)
    return losses, hidden, below, above


def gradient(net, x, labels):
    """The mean loss of a batch and its gradient: one matrix product for each layer."""
    losses, hidden, below, above = deltas(net, x, labels)
    size = np.float32(len(labels))
    slopes = [x.T @ below, below.sum(-2, keepdims=True)]
    slopes += [hidden.swapaxes(-1, -2) @ above, above.sum(-2, keepdims=True)]
    for slope in slopes:
        slope /= size
    return losses.mean(axis=-1), slopes


def gradient_by_loop(net, x, labels):
    """The same gradient, one example after another."""
    total = None
    for place in range(len(labels)):
        _, slopes = gradient(net, x[place : place + 1], labels[place : place + 1])
        total = total or [np.zeros_like(slope) for slope in slopes]
        for array, slope in zip(total, slopes):
            array += slope
    return [array / np.float32(len(labels)) for array in total]


def flat(slopes):
    return np.concatenate([slope.ravel() for slope in slopes])


def noise(net, x, labels):
    """S, the mean squared distance of one example's gradient from G; and G itself.

    The gradient of one example's weights is an outer product of its inputs and its slopes,
    so its squared length is a product of two squared lengths: no gradient is written out.
    """
    _, hidden, below, above = deltas(net, x, labels)
    squares = (below**2).sum(-1) * ((x**2).sum(-1) + 1)
    squares += (above**2).sum(-1) * ((hidden**2).sum(-1) + 1)
    full = flat(gradient(net, x, labels)[1])
    return squares.mean() - full @ full, full


# %% [markdown]
# The function `noise` is worth a second look. Equation {eq}`eq-mb-noise` asks for $\lVert g_i \rVert^2$ of *every*
# example, which looks like $N$ gradients of 25,450 numbers. But for one example the gradient of a layer's weights is
# $x_i \delta_j$ for input $i$ and unit $j$, and $\sum_{ij} (x_i \delta_j)^2 = \sum_i x_i^2 \, \sum_j \delta_j^2$. Two
# short sums do.
#
# **Is it right?** Finite differences judge the gradient, one example after another judges the matrix form and the noise,
# and Keras judges the whole.

# %%
def difference_quotients(net, x, labels, places, step=1e-6):
    """Slopes found by moving one number both ways; places are (array, index in it)."""
    quotients = []
    for part, place in places:
        values = []
        for sign in (1, -1):
            moved = [array.copy() for array in net]
            moved[part].flat[place] += sign * step
            values.append(gradient(moved, x, labels)[0][0])
        quotients.append((values[0] - values[1]) / (2 * step))
    return np.array(quotients)


sizes = [784, 32, 10]
rng = np.random.default_rng(0)
checked = random_net(0, sizes, dtype="float64")
for bias in checked[1::2]:
    bias += rng.normal(0, 0.1, bias.shape)  # away from ReLU's kinks
x_few, y_few = x_train[:12].astype(float), y_train[:12]
places = [
    (p, rng.integers(array.size)) for p, array in enumerate(checked) for _ in "ab" * 10
]
ours = gradient(checked, x_few, y_few)[1]
picked = np.array([ours[part].flat[place] for part, place in places])
quotients = difference_quotients(checked, x_few, y_few, places)
calipers.record(
    "mb-gradient-disagreements",
    int(np.sum(np.abs(quotients - picked) > 1e-6 * np.abs(quotients) + 1e-9)),
    equals=0,
    title="Slopes that finite differences dispute, of 80",
)
looped = flat(gradient_by_loop(checked, x_few, y_few))
alone = [
    flat(gradient(checked, x_few[i : i + 1], y_few[i : i + 1])[1]) for i in range(12)
]
by_hand = np.mean([np.sum((one - np.mean(alone, axis=0)) ** 2) for one in alone])
apart = int(np.sum(np.abs(looped - flat(ours)) > 1e-12))
apart += abs(noise(checked, x_few, y_few)[0] / by_hand - 1) > 1e-9
calipers.record(
    "mb-loop-disagreements",
    int(apart),
    equals=0,
    title="Numbers in which the loop over examples and the matrix form disagree",
)

# %% [markdown]
# ### The matrix form against the loop
#
# **What does it save to take a batch at once?** The lecture says: about half of the time {cite}`schonhuth2019`. We let
# both forms compute the same gradient in turns and compare their fastest rounds.

# %%
nielsen = random_net(0, [784, 30, 10])
loop_sizes = [1, 2, 4, 10, 64, 256]
loop_ratios = {}
for size in loop_sizes:
    batch = x_train[:size], y_train[:size]
    seconds = {gradient: [], gradient_by_loop: []}
    for _ in range(max(3, 20 * rounds // size)):
        for function, taken in seconds.items():
            start = time.perf_counter()
            function(nielsen, *batch)
            taken.append(time.perf_counter() - start)
    loop_ratios[size] = min(seconds[gradient_by_loop]) / min(seconds[gradient])
for size, bounds in ((2, {}), (10, {"at_least": 3}), (256, {})):
    calipers.record(
        f"mb-loop-ratio-{size}",
        loop_ratios[size],
        "times",
        title=f"Seconds of the loop over {size} examples for one of the matrix form",
        **bounds,
    )


# %% [markdown]
# In batches of ten, as in the book that the lecture follows, the loop takes {glue:text}`mb-loop-ratio-10.mean:.0f` times
# as long; in batches of 256, {glue:text}`mb-loop-ratio-256.mean:.0f` times. Already in batches of two it is
# {glue:text}`mb-loop-ratio-2.mean:.1f`. The reason is memory: for one example every weight is fetched to be used once,
# and a gradient of 24,000 numbers is written out and added up. A matrix product fetches each weight once for the whole
# batch. What Python spends on each call comes on top.
#
# (sec-mb-keras)=
# ## The same in Keras
#
# In Keras the batch size is an argument of `fit`. Four runs of one small net, from the same weights and on the same
# examples in the same order; we count the parameters in which two of them end up apart by more than rounding.

# %%
def keras_run(
    batch_size, rate, reduction="sum_over_batch_size", accumulate=None, steps=12
):
    """Weights after an epoch of `fit` over so many batches of 64."""
    model = keras.Sequential(
        [keras.Input((784,)), layers.Dense(32, activation="relu"), layers.Dense(10)]
    )
    model.set_weights([array[0] for array in in_keras_shape(random_net(1, sizes))])
    model.compile(
        keras.optimizers.SGD(rate, gradient_accumulation_steps=accumulate),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        ),
    )
    many = 64 * steps
    model.fit(
        x_train[:many], y_train[:many], batch_size=batch_size, shuffle=False, verbose=0
    )
    return np.concatenate([weights.ravel() for weights in model.get_weights()])


def in_keras_shape(net):
    """A bias as Keras keeps it: one axis less."""
    return [array[:, 0] if number % 2 else array for number, array in enumerate(net)]


ours = random_net(1, sizes)
for start in range(0, 12 * 64, 64):
    batch = slice(start, start + 64)
    for array, slope in zip(ours, gradient(ours, x_train[batch], y_train[batch])[1]):
        array -= np.float32(0.1) * slope
mean_64 = keras_run(64, 0.1)
for key, other, words in (
    ("scratch", flat(ours), "our own descent"),
    ("sum", keras_run(64, 0.1 / 64, reduction="sum"), "the summed loss, rate over 64"),
    ("accumulated", keras_run(16, 0.1, accumulate=4), "four batches of 16 accumulated"),
):
    calipers.record(
        f"mb-{key}-apart",
        int(np.sum(np.abs(mean_64 - other) > 1e-4)),
        equals=0,
        title=f"Parameters of a Keras run in batches of 64 that differ from {words}",
    )

# %% [markdown]
# Three things are shown. Our code does what `fit` does. *Summing* the losses of a batch is the same as averaging them at
# $B$ times the rate, so `reduction="sum"` changes your learning rate behind your back as soon as you change the batch.
# And if a batch is too large for memory, the gradients of its parts can be gathered first (`gradient_accumulation_steps`)
# and stepped with once; nothing is lost but time. (Unless a layer looks at the whole batch, as
# {ref}`batch normalisation <ch-batch-normalisation>` does; {numref}`ex-mb-accumulate`.)
#
# (sec-mb-variance)=
# ## The gradient's noise, measured
#
# **Does the noise fall as $1/B$?** From a pool of {glue:text}`mb-pool` training images we draw batches, with and without
# replacement, at a fresh net, and take the mean of $\lVert g_B - G \rVert^2$. The theory has nothing to fit: $S$ comes
# from {eq}`eq-mb-noise`.

# %%
x_pool, y_pool = x_train[:pool], y_train[:pool]
noise_sizes = [size for size in 4 ** np.arange(7) if size < pool] + [pool // 2, pool]
calipers.record("mb-pool", len(x_pool), title="Images in the pool")


def strays_of(seed):
    net, rng = random_net(seed, sizes), np.random.default_rng([seed, 2])
    single, full = noise(net, x_pool, y_pool)
    strays = np.zeros((2, len(noise_sizes)))
    for kind, column in itertools.product((0, 1), range(len(noise_sizes))):
        size, squares = int(noise_sizes[column]), []
        for _ in range(min(300, max(30, draws // size))):
            batch = (
                rng.choice(pool, size, replace=True)
                if kind
                else rng.permutation(pool)[:size]
            )
            away = flat(gradient(net, x_pool[batch], y_pool[batch])[1]) - full
            squares.append(away @ away)
        strays[kind, column] = np.mean(squares)
    return {"strays": strays / single, "scale": single / (full @ full)}


strays = calipers.over_seeds(strays_of, seeds, "noise of the gradient")
without, with_replacement = strays["strays"].values.swapaxes(0, 1)


def of_seeds(values):
    return calipers.Sample(np.asarray(values, dtype=float), tuple(seeds))


column = {int(size): number for number, size in enumerate(noise_sizes)}
calipers.record(
    "mb-noise-1-over-64",
    of_seeds(without[:, column[1]] / without[:, column[64]]),
    between=(55, 75),
    title="Squared noise of a single example, for that of a batch of 64 at 1",
)
calipers.record(
    "mb-noise-half-without",
    of_seeds(without[:, column[pool // 2]] * (pool // 2)),
    between=(0.45, 0.55),
    title="Squared noise of half of the examples dealt without replacement, for S/B at 1",
)
calipers.record(
    "mb-noise-half-with",
    of_seeds(with_replacement[:, column[pool // 2]] * (pool // 2)),
    between=(0.8, 1.25),
    title="The same with replacement",
)

# %%
figure, axis = plt.subplots()
shown_sizes = np.array(noise_sizes, dtype=float)
smooth = np.geomspace(1, pool - 1, 200)
axis.plot(smooth, 1 / smooth, color="gray", lw=1)
axis.plot(smooth, (pool - smooth) / (pool - 1) / smooth, color="gray", lw=1, ls="--")
for values, mark, label in (
    (with_replacement, "o", "with replacement"),
    (without[:, :-1], "s", "without"),
):
    middle = values.mean(axis=0)
    spread = [middle - values.min(axis=0), values.max(axis=0) - middle]
    axis.errorbar(
        shown_sizes[: len(middle)],
        middle,
        spread,
        fmt=mark,
        ms=6,
        capsize=3,
        label=label,
    )
axis.set(xlabel="batch size", ylabel="squared noise / $S$", xscale="log", yscale="log")
axis.legend()
calipers.show(
    alt="Squared noise of the gradient against the batch size, both logarithmic. The dots of both "
    "ways of drawing fall along a straight line of slope minus one from 1 at batches of one. "
    "Only at the largest batches do they part: without replacement the dots bend down below the "
    "line, as the dashed curve of the theory does, and the full batch has no noise at all."
)


# %% [markdown]
# It does. A single example is {glue:text}`mb-noise-1-over-64.mean:.0f` times as noisy as a batch of 64 (in squares),
# where the theory says 64 (65 without replacement). At half of the pool the theory promises a factor of one half for
# dealing without replacement: {glue:text}`mb-noise-half-without.mean:.2f`, against
# {glue:text}`mb-noise-half-with.mean:.2f` with.
#
# (sec-mb-experiment)=
# ## The experiment: five batch sizes, each at its own rate
#
# **What does a batch size cost on the way to one and the same accuracy?** Plain gradient descent at a constant rate on
# {glue:text}`mb-examples` images, in batches of 4, 16, 64, 256 and 1,024. About ten times an epoch we look at the
# held-back images, and stop the clock meanwhile. A run has *arrived* when the mean of three looks in a row reaches
# {glue:text}`mb-target` %.

# %%
def train(net, x, labels, rates, batch_size, steps, seed, watch=None, shape=None):
    """Descend in place; every epoch deals the examples anew, a rest that fills no batch stays out."""
    rng = np.random.default_rng([seed, 1])
    rates = np.reshape(np.asarray(rates, net[0].dtype), (-1, 1, 1))
    order = []
    with np.errstate(all="ignore"):  # some rates are too large: that is the lesson
        for number in range(steps):
            if len(order) < batch_size:
                order = rng.permutation(len(x))
            batch, order = order[:batch_size], order[batch_size:]
            _, slopes = gradient(net, x[batch], labels[batch])
            now = rates if shape is None else rates * np.float32(shape(number / steps))
            for array, slope in zip(net, slopes):
                slope *= now
                array -= slope
            if watch:
                watch(number + 1, net)


def accuracy(net, x, labels):
    """Accuracy of every net, in %."""
    with np.errstate(all="ignore"):
        return 100 * (forward(net, x)[0].argmax(axis=-1) == labels).mean(axis=-1)


def race(seed, rates, batch_size, within=None):
    """Train a net at each rate: when we looked, what accuracy we saw (looks, nets), the nets."""
    steps, reads = [], []
    apart = max(1, check_every // batch_size)

    def watch(step, net):
        if step % apart == 0:
            steps.append(step)
            reads.append(accuracy(net, x_val, y_val))

    net = random_net(seed, sizes, len(rates))
    last = (within or epochs[batch_size]) * max(1, len(x_train) // batch_size)
    train(net, x_train, y_train, rates, batch_size, last, seed, watch)
    return np.array(steps), np.array(reads), net


def arrival(steps, reads):
    """For each net the step at which three looks average the target; never is infinite."""
    smooth = (reads[2:] + reads[1:-1] + reads[:-2]) / 3
    there = smooth >= target
    return np.where(there.any(axis=0), steps[2:][there.argmax(axis=0)], np.inf)


batch_sizes = list(epochs)
calipers.record("mb-examples", len(x_train), title="Training images")
calipers.record(
    "mb-target", target, title="Target: accuracy on the held-back images, %"
)

# %% [markdown]
# ### Choosing the rates, in view
#
# Eight rates for each size, from 1/128 to 1, a factor of two apart: that is the grid, and the same for all. The map below
# is one seed, 100, which is used for nothing else.

# %%
rates = 2.0 ** np.arange(-7, 1)
arrivals = {}
for size in batch_sizes:
    steps, reads, _ = race(100, rates, size)
    arrivals[size] = arrival(steps, reads) * size / len(x_train)
    cells = " ".join(f"{e:5.1f}" if e < np.inf else "    -" for e in arrivals[size])
    print(f"epochs to the target in batches of {size:4}: {cells}")

# %%
rate_names = ["1/128", "1/64", "1/32", "1/16", "1/8", "1/4", "1/2", "1"]
needed = np.array([arrivals[size] for size in batch_sizes])
least = np.array([min(row) for row in needed])
figure, axis = plt.subplots(figsize=(5, 3.2))
with np.errstate(invalid="ignore"):
    shade = np.where(np.isfinite(needed), least[:, None] / needed, 0)
axis.imshow(shade, cmap="viridis", vmin=0, vmax=1, origin="lower", aspect="auto")
for row, cell in np.argwhere(np.isfinite(needed)):
    ink = "black" if shade[row, cell] > 0.6 else "white"
    words = (
        f"{needed[row, cell]:.1f}"
        if needed[row, cell] < 9.95
        else f"{needed[row, cell]:.0f}"
    )
    axis.text(cell, row, words, ha="center", va="center", fontsize=11, color=ink)
axis.set_xticks(range(1, len(rates), 2), rate_names[1::2])
axis.set_yticks(range(len(batch_sizes)), batch_sizes)
axis.set(xlabel="learning rate", ylabel="batch size")
axis.grid(False)
calipers.show(
    alt="A map of the epochs to the target over batch size and learning rate; the brighter a cell, "
    "the nearer to its row's best. The bright cells climb from a small rate at batches of 4 along a diagonal, "
    "and bend upright from batches of 64 on: beyond a rate of about a quarter nothing arrives soon, "
    "whatever the batch. The numbers in the bright cells grow from the bottom row to the top."
)

# %% [markdown]
# The linear rule would be a straight diagonal: four times the batch, two cells to the right. It begins so and then runs
# into a wall. No batch size profits from more than about 1/4, and none survives 1.
#
# | batch size | rates tried | seeds for choosing | epochs allowed | chosen | rate by the linear rule |
# |--:|:--|:--|--:|--:|--:|
# | 4 | 1/128 to 1 | 100, 101, 102 | 2 | 1/32 | 1/64 |
# | 16 | the same eight | the same | 3 | 1/16 | 1/16 |
# | 64 | the same eight | the same | 5 | 1/4 | 1/4 |
# | 256 | the same eight | the same | 11 | 1/4 | 1 |
# | 1,024 | the same eight | the same | 24 | 1/4 | 4 |

# %%
chosen = {4: 1 / 32, 16: 1 / 16, 64: 1 / 4, 256: 1 / 4, 1024: 1 / 4}


# %% [markdown]
# ### The result
#
# The seeds of the report are others. Beside its own rate, every size also runs for two epochs at the rate that the linear
# rule derives from batches of 16, and batches of 1,024 run at the rate of batches of 4 too.

# %%
def rule(size):
    """The linear rule, from batches of 16 at their rate."""
    return chosen[16] * size / 16


def roughness(reads):
    """Spread of the last looks about the line through their neighbours, in points."""
    last = reads[-16:]
    bumps = last[1:-1] - (last[2:] + last[:-2]) / 2
    return np.sqrt((bumps**2).mean(axis=0) / 1.5)


def after_two_epochs(steps, reads, size):
    """The mean of the last three looks of the first two epochs."""
    return reads[steps * size <= 2 * len(x_train)][-3:].mean(axis=0)[0]


OWN, COMMON = 0, 1


def five_sizes(seed):
    result = {}
    for size in batch_sizes:
        own = [chosen[size], 1 / 32] if size == 1024 else [chosen[size]]
        steps, reads, net = race(seed, own, size)
        result[f"net {size}"] = [array[:1] for array in net]
        result[f"looks {size}"] = steps * size / len(x_train)
        result[f"reads {size}"] = reads
        result[f"steps {size}"] = min(arrival(steps, reads)[OWN], steps[-1])
        result[f"rough {size}"] = roughness(reads)
        result[f"own {size}"] = after_two_epochs(steps, reads, size)
        if rule(size) != chosen[size]:
            steps, reads, _ = race(seed, [rule(size)], size, within=2)
        result[f"rule {size}"] = after_two_epochs(steps, reads, size)
    return result


raced = calipers.over_seeds(five_sizes, seeds, "five batch sizes")
steps_of = np.array([raced[f"steps {size}"].values for size in batch_sizes])
for size, steps in zip(batch_sizes, steps_of):
    calipers.record(
        f"mb-steps-{size}",
        of_seeds(steps),
        "steps",
        title=f"Steps to the target in batches of {size}",
    )
for size, steps in zip(batch_sizes, steps_of):
    calipers.record(
        f"mb-epochs-{size}",
        of_seeds(steps * size / len(x_train)),
        "epochs",
        greater_than="mb-epochs-4" if size == 1024 else None,
        title=f"Epochs to the target in batches of {size}",
    )
for low, high, limits in ((4, 16, {"between": (2, 4.5)}), (256, 1024, {"at_most": 2})):
    ratio = steps_of[batch_sizes.index(low)] / steps_of[batch_sizes.index(high)]
    calipers.record(
        f"mb-steps-{low}-over-{high}",
        of_seeds(ratio),
        title=f"Steps in batches of {low} for one step in batches of {high}",
        **limits,
    )


# %% [markdown]
# What does a step cost in seconds? We time single nets, our own on one core and
# Keras's, with the sizes taking turns, and keep each
# one's fastest round. And the memory: the most that is allocated while a gradient is computed, the batch included.

# %%
def one_model():
    model = keras.Sequential(
        [keras.Input((784,)), layers.Dense(32, activation="relu"), layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


in_keras, in_numpy = one_model(), random_net(0, sizes)
step_seconds = {"numpy": {}, "keras": {}}
for _, size in itertools.product(range(rounds), batch_sizes):
    count = max(8, min(200, len(x_train) // size))
    start = time.perf_counter()
    train(in_numpy, x_train, y_train, [0.01], size, count, seed=0)
    step_seconds["numpy"].setdefault(size, []).append(
        (time.perf_counter() - start) / count
    )
for _, size in itertools.product(range(min(rounds, 2)), batch_sizes):
    count = max(1, min(150, len(x_train) // size))
    some = slice(0, count * size)
    start = time.perf_counter()
    in_keras.fit(
        x_train[some], y_train[some], batch_size=size, shuffle=False, verbose=0
    )
    step_seconds["keras"].setdefault(size, []).append(
        (time.perf_counter() - start) / count
    )
for library, size in itertools.product(step_seconds, batch_sizes):
    taken = min(step_seconds[library][size]) * raced[f"steps {size}"].values
    calipers.record(
        f"mb-seconds-{library}-{size}",
        of_seeds(taken),
        "s",
        title=f"Seconds to the target in batches of {size}, {library}",
    )
    step_seconds[library][size] = min(step_seconds[library][size])
for size in (4, 1024):
    slower = step_seconds["numpy"][size] * raced[f"steps {size}"].values
    middle = step_seconds["numpy"][64] * raced["steps 64"].values
    calipers.record(
        f"mb-seconds-{size}-over-64",
        of_seeds(slower / middle),
        "times",
        title=f"Seconds to the target in batches of {size}, for one in batches of 64",
    )


# %%
def peak_memory(size):
    """The most bytes that one gradient allocates, its batch included."""
    tracemalloc.start()
    chosen_ones = np.arange(size)
    gradient(in_numpy, x_train[chosen_ones], y_train[chosen_ones])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


peak_memory(4)  # the first call also pays for what Python keeps
peaks = {size: peak_memory(size) for size in batch_sizes}
for size in batch_sizes[1:]:
    calipers.record(
        f"mb-memory-{size}",
        peaks[size] / peaks[4],
        "times",
        at_least=10 if size == 1024 else None,
        title=f"Memory of a gradient in batches of {size}, for that in batches of 4",
    )
print(
    f"bytes an example: {(peaks[1024] - peaks[4]) / 1020:.0f}, of them pixels: {784 * 4}"
)

# %% [markdown]
# | batch | rate | steps | epochs | seconds, NumPy | seconds, Keras | memory |
# |--:|--:|--:|--:|--:|--:|--:|
# | 4 | 1/32 | {glue:text}`mb-steps-4.mean:,.0f` ± {glue:text}`mb-steps-4.sd:,.0f` | {glue:text}`mb-epochs-4.mean:.1f` | {glue:text}`mb-seconds-numpy-4.mean:.2f` | {glue:text}`mb-seconds-keras-4.mean:.2f` | 1 |
# | 16 | 1/16 | {glue:text}`mb-steps-16.mean:,.0f` ± {glue:text}`mb-steps-16.sd:,.0f` | {glue:text}`mb-epochs-16.mean:.1f` | {glue:text}`mb-seconds-numpy-16.mean:.2f` | {glue:text}`mb-seconds-keras-16.mean:.2f` | {glue:text}`mb-memory-16.mean:.1f` |
# | 64 | 1/4 | {glue:text}`mb-steps-64.mean:,.0f` ± {glue:text}`mb-steps-64.sd:,.0f` | {glue:text}`mb-epochs-64.mean:.1f` | {glue:text}`mb-seconds-numpy-64.mean:.2f` | {glue:text}`mb-seconds-keras-64.mean:.2f` | {glue:text}`mb-memory-64.mean:.1f` |
# | 256 | 1/4 | {glue:text}`mb-steps-256.mean:,.0f` ± {glue:text}`mb-steps-256.sd:,.0f` | {glue:text}`mb-epochs-256.mean:.1f` | {glue:text}`mb-seconds-numpy-256.mean:.2f` | {glue:text}`mb-seconds-keras-256.mean:.2f` | {glue:text}`mb-memory-256.mean:.1f` |
# | 1,024 | 1/4 | {glue:text}`mb-steps-1024.mean:,.0f` ± {glue:text}`mb-steps-1024.sd:,.0f` | {glue:text}`mb-epochs-1024.mean:.1f` | {glue:text}`mb-seconds-numpy-1024.mean:.2f` | {glue:text}`mb-seconds-keras-1024.mean:.2f` | {glue:text}`mb-memory-1024.mean:.1f` |
#
# Steps fall, epochs rise. In between lies the shortest time. With our code a batch of 4 takes
# {glue:text}`mb-seconds-4-over-64.mean:.1f` times the seconds of a batch of 64, because a step on 4 examples is far from
# sixteen times cheaper, and one of 1,024 takes {glue:text}`mb-seconds-1024-over-64.mean:.1f` times, because each step
# costs more and saves little. Where the shortest time lies is a property of the *machine*. On a wide one large steps are
# nearly free, and the fastest batch moves up. What a machine cannot move is the column of steps. (Memory is told in units
# of what a batch of 4 takes. Most of that is the gradient itself, which does not grow with the batch; each example then
# adds its pixels and a few hundred bytes more.)

# %%
figure, axis = plt.subplots()
for size, mark in zip(batch_sizes, ("-", "--", "-.", ":", "-")):
    looks, reads = raced[f"looks {size}"].mean, raced[f"reads {size}"].values[:, :, OWN]
    axis.fill_between(looks, reads.min(axis=0), reads.max(axis=0), alpha=0.2, lw=0)
    axis.plot(looks, reads.mean(axis=0), mark, label=f"{size:,}", lw=1.5)
axis.axhline(target, color="gray", lw=1)
axis.set(xlabel="epochs (logarithmic)", ylabel="held-back accuracy (%)", xscale="log")
axis.set(ylim=(min(50, target), 90))
axis.set_xticks([0.1, 0.3, 1, 3, 10, 30], ["0.1", "0.3", "1", "3", "10", "30"])
axis.legend(title="batch size", fontsize=10, title_fontsize=10, loc="lower right")
calipers.show(
    alt="Held-back accuracy over the epochs, on a logarithmic axis, for five batch sizes, each at its own rate; "
    f"bands over the seeds, and a line at the target of {target} %. Batches of 4 and 16 cross the line about together; "
    "64, 256 and 1,024 follow at ever larger distances to the right. All five curves are jagged."
)


# %% [markdown]
# (sec-mb-bend)=
# ### The bend, and what foretells it
#
# **Can the bend be foretold from gradients alone, without a single race?** Equation {eq}`eq-mb-scaling` says that it
# comes at the noise scale. We fit its two numbers to the five counts of steps of each seed, and measure
# $B_{\text{noise}}$ by {eq}`eq-mb-scale` on the pool while a net trains in batches of 64.

# %%
def bend(steps):
    """Fit steps = least (1 + b / B) in logarithms: (least, b)."""
    candidates = np.geomspace(1, 2000, 800)[:, None]
    rest = np.log(steps) - np.log(1 + candidates / np.array(batch_sizes))
    best = rest.var(axis=1).argmin()
    return np.exp(rest[best].mean()), candidates[best, 0]


def noise_course(seed):
    """The noise scale of the fresh net and of four epochs; an epoch averages ten looks."""
    each, looks = max(10, len(x_train) // 64), []

    def watch(step, net):
        if step % (each // 10) == 0:
            single, full = noise(net, x_pool, y_pool)
            looks.append((single, full @ full))

    net = random_net(seed, sizes)
    watch(0, net)
    train(net, x_train, y_train, [chosen[64]], 64, 40 * (each // 10), seed, watch)
    means = [looks[0], *np.reshape(looks[1:], (4, 10, 2)).mean(axis=1)]
    return {"scales": [single / squared for single, squared in means]}


course = calipers.over_seeds(noise_course, seeds, "noise scale")["scales"].values
fits = np.array([bend(steps) for steps in steps_of.T])
for epoch, against in ((0, {}), (1, {}), (3, {"compared_with": "mb-scale-1"})):
    calipers.record(
        f"mb-scale-{epoch}",
        of_seeds(course[:, epoch]),
        title=f"Noise scale in epoch {epoch}"
        if epoch
        else "Noise scale of the fresh net",
        **against,
    )
calipers.record(
    "mb-bend", of_seeds(fits[:, 1]), title="Batch size at which the steps bend, fitted"
)
calipers.record(
    "mb-bend-over-scale",
    of_seeds(fits[:, 1] / course[:, 3]),
    between=(1 / 3, 3),
    title="The bend, for the noise scale in the third epoch at 1",
)

# %%
figure, axis = plt.subplots()
smooth = np.geomspace(2, 2048, 100)
least, place_of_bend = fits.mean(axis=0)
middle = steps_of.mean(axis=1)
axis.plot(
    smooth, least * (1 + place_of_bend / smooth), color="gray", label="fitted bend"
)
axis.plot(smooth, middle[0] * 4 / smooth, ":", color="gray", label="linear rule")
spread = [middle - steps_of.min(axis=1), steps_of.max(axis=1) - middle]
axis.errorbar(batch_sizes, middle, spread, fmt="o", ms=7, capsize=3, label="measured")
for scale in course[:, 3]:
    axis.axvline(scale, color=calipers.COLOURS["orange"], lw=1, ls="--")
axis.set(xlabel="batch size", ylabel="steps to the target", xscale="log", yscale="log")
axis.set_xticks(batch_sizes, [f"{size:,}" for size in batch_sizes])
axis.minorticks_off()
axis.set_ylim(middle[-1] / 3, middle[0] * 2)
axis.legend(fontsize=10)
calipers.show(
    alt="Steps to the target against the batch size, both logarithmic. The measured dots fall "
    "steeply at first and flatten out to the right, along the fitted curve; the dotted straight "
    "line of the linear rule leaves them below. Dashed upright lines mark the measured "
    "noise scale of each seed: they stand where the curve bends."
)

# %% [markdown]
# The steps bend at a batch of {glue:text}`mb-bend.mean:.0f`; the noise scale in the third epoch, in which batches of 64
# arrive, is {glue:text}`mb-scale-3.mean:.0f`. From the crude assumptions of {ref}`sec-mb-rate` one could not ask for more
# than the order of magnitude, and that they give. From 4 to 16 the steps fall by a factor of
# {glue:text}`mb-steps-4-over-16.mean:.1f`, nearly the four of the linear rule; from 256 to 1,024 by
# {glue:text}`mb-steps-256-over-1024.mean:.1f`.
#
# The noise scale is no constant. It was {glue:text}`mb-scale-0.mean:.0f` at the fresh net and
# {glue:text}`mb-scale-1.mean:.0f` in the first epoch (third against first: {glue:text}`mb-scale-3.verdict`).
# {cite:t}`mccandlish2018` find that it grows as the loss falls, and that it is tens of thousands for ImageNet and
# millions for a game: harder problems bear larger batches.
#
# ### Where the linear rule stops
#
# **What happens if you trust the rule beyond the bend?** Accuracy on the held-back images after two epochs, at the rate
# that the rule derives from batches of 16, and at each size's own:

# %%
bounds = {16: {"at_least": 70}, 256: {"at_most": 50}, 1024: {"at_most": 50}}
for size in batch_sizes:
    calipers.record(
        f"mb-rule-{size}",
        raced[f"rule {size}"],
        "%",
        examples=held_back,
        title=f"Held-back accuracy after two epochs at the rule's rate, batches of {size}",
        **bounds.get(size, {}),
    )
    calipers.record(
        f"mb-own-{size}",
        raced[f"own {size}"],
        "%",
        examples=held_back,
        title=f"Held-back accuracy after two epochs at its own rate, batches of {size}",
    )

# %% [markdown]
# | batch | rule's rate | accuracy | own rate | accuracy |
# |--:|--:|--:|--:|--:|
# | 4 | 1/64 | {glue:text}`mb-rule-4` | 1/32 | {glue:text}`mb-own-4` |
# | 16 | 1/16 | {glue:text}`mb-rule-16` | 1/16 | {glue:text}`mb-own-16` |
# | 64 | 1/4 | {glue:text}`mb-rule-64` | 1/4 | {glue:text}`mb-own-64` |
# | 256 | 1 | {glue:text}`mb-rule-256` | 1/4 | {glue:text}`mb-own-256` |
# | 1,024 | 4 | {glue:text}`mb-rule-1024` | 1/4 | {glue:text}`mb-own-1024` |
#
# Up to the bend it serves. Beyond it, the rule asks for more than the curvature allows, and the net is lost.
# {cite:t}`goyal2017` carried the rule to batches of 8,192 on ImageNet, without loss of accuracy, and with a gradual
# start; {cite:t}`shallue2019` tuned every batch size in 35 workloads and found that where perfect scaling ends differs
# enormously between them. The two agree: one stayed below the bend of a hard problem, the others went past it.
# {numref}`ex-mb-warmup` tries the gradual start here.
#
# (sec-mb-fair)=
# ## Do large batches generalise worse?
#
# **Is there a gap, once the comparison is fair?** {cite:t}`keskar2017` saw large batches do worse on new data.
# {cite:t}`masters2018` found the best batches between 2 and 32. {cite:t}`shallue2019` found no evidence of harm. Let us
# get all three answers from one net. We train on {glue:text}`mb-few-examples` images, with a rate that falls evenly to
# zero. "Fair" can mean three things: the same number of examples seen (epochs), the same number of steps, or enough of
# both.

# %%
x_small, y_small = x_train[:few_examples], y_train[:few_examples]
budgets = {  # name: (batch size, steps, chosen rate)
    "epochs-16": (16, few_steps, 1 / 8),
    "epochs-512": (512, few_steps * 16 // 512, 1 / 4),
    "steps-512": (512, few_steps, 1 / 4),
    "long-16": (16, 3 * few_steps, 1 / 8),
}
small_rates = 2.0 ** np.arange(-5, 0)


def falling(share):
    return 1 - share


def small_run(seed, batch_size, steps, rates):
    net = random_net(seed, sizes, len(rates))
    train(net, x_small, y_small, rates, batch_size, steps, seed, shape=falling)
    return net


for name, (size, steps, _) in budgets.items():
    reads = accuracy(small_run(100, size, steps, small_rates), x_val, y_val)
    cells = " ".join(f"{read:5.1f}" for read in reads)
    print(f"{name:10}: held-back accuracy at 1/32 to 1/2: {cells}")


# %% [markdown]
# The grid runs from 1/32 to 1/2 for each; seeds 100 and 101 chose the rates on the held-back images (a wider grid, from
# 1/64 to 2, had been scored before, with 1,000 steps, and its ends were useless). The first of these seeds is printed
# above. Now the other seeds and, for the first time, the test images:

# %%
def fair(seed):
    result = {}
    for name, (size, steps, rate) in budgets.items():
        net = small_run(seed, size, steps, [rate])
        result[f"{name} training"] = accuracy(net, x_small, y_small)[0]
        result[f"{name} test"] = accuracy(net, x_test, y_test)[0]
    return result


fair_runs = calipers.over_seeds(fair, seeds, "fair budgets")
calipers.record("mb-few-examples", len(x_small), title="Training images, fair budgets")
for name, against in (
    ("epochs-512", {}),
    ("epochs-16", {"greater_than": "mb-fair-epochs-512"}),
    ("steps-512", {"greater_than": "mb-fair-epochs-16"}),
    ("long-16", {"compared_with": "mb-fair-steps-512"}),
):
    calipers.record(
        f"mb-fair-{name}-training",
        fair_runs[f"{name} training"],
        "%",
        title=f"Training accuracy, {name}",
    )
    calipers.record(
        f"mb-fair-{name}",
        fair_runs[f"{name} test"],
        "%",
        examples=tested,
        title=f"Test accuracy, {name}",
        **against,
    )
    calipers.record(
        f"mb-fair-{name}-gap",
        fair_runs[f"{name} training"] - fair_runs[f"{name} test"],
        "points",
        title=f"Training accuracy less test accuracy, {name}",
    )

# %% [markdown]
# | budget | batch | steps | epochs | rate | training | test | gap (points) |
# |:--|--:|--:|--:|--:|--:|--:|--:|
# | same epochs, same steps | 16 | 600 | 2.4 | 1/8 | {glue:text}`mb-fair-epochs-16-training.mean:.1f` % | {glue:text}`mb-fair-epochs-16` | {glue:text}`mb-fair-epochs-16-gap.mean:.1f` |
# | same epochs | 512 | 18 | 2.4 | 1/4 | {glue:text}`mb-fair-epochs-512-training.mean:.1f` % | {glue:text}`mb-fair-epochs-512` | {glue:text}`mb-fair-epochs-512-gap.mean:.1f` |
# | same steps | 512 | 600 | 80 | 1/4 | {glue:text}`mb-fair-steps-512-training.mean:.1f` % | {glue:text}`mb-fair-steps-512` | {glue:text}`mb-fair-steps-512-gap.mean:.1f` |
# | enough of both | 16 | 1,800 | 7.2 | 1/8 | {glue:text}`mb-fair-long-16-training.mean:.1f` % | {glue:text}`mb-fair-long-16` | {glue:text}`mb-fair-long-16-gap.mean:.1f` |
#
# (Steps and epochs are those of the quick profile.) With equal epochs the small batch wins by
# {glue:text}`mb-fair-epochs-16.difference:.1f` ± {glue:text}`mb-fair-epochs-16.noise:.1f` points on the test images. With
# equal steps the large one wins by {glue:text}`mb-fair-steps-512.difference:.1f` ±
# {glue:text}`mb-fair-steps-512.noise:.1f`. Allow the small batch three times the steps, still only a tenth of the large
# one's epochs, and the difference is {glue:text}`mb-fair-long-16.difference:.2f` ± {glue:text}`mb-fair-long-16.noise:.2f`
# points: {glue:text}`mb-fair-long-16.verdict`. Look at the training column: the test accuracy follows it. What the large
# batch lacked in the first comparison was training, not generalisation, and {cite:t}`hoffer2017` put that into their
# title: train longer. This is a small net, and no proof for large ones. But whoever shows you a gap owes you two columns:
# rates tried, and steps.

# %%
figure, axis = plt.subplots()
order_shown = ["epochs-16", "epochs-512", "steps-512", "long-16"]
for height, name in enumerate(order_shown):
    for kind, mark, colour in (("training", "s", "orange"), ("test", "o", "blue")):
        values = fair_runs[f"{name} {kind}"].values
        label = kind if height == 0 else None
        shift = np.full(len(values), -height, dtype=float)
        axis.plot(
            values, shift, mark, color=calipers.COLOURS[colour], alpha=0.7, label=label
        )
axis.set_yticks(
    range(0, -4, -1),
    ["16", "512, equal\nepochs", "512, equal\nsteps", "16, three\ntimes both"],
)
axis.set(xlabel="accuracy (%)", ylim=(-3.5, 0.5))
axis.legend(loc="center left", fontsize=10)
calipers.show(
    alt="Training and test accuracy of four runs, a dot for each seed. Batches of 16 lie "
    "in the middle; batches of 512 for the same epochs far to the left of all; batches of 512 "
    "for as many steps lie to the right, and batches of 16 for three times the steps beside them."
)

# %% [markdown]
# :::{admonition} How the settings of this page were chosen
# :class: note
#
# On held-back training images, with the seeds 100 to 102; the results come from other seeds. The target of {given}`80 %` was set
# after trials that showed which accuracy every size reaches in its budget. The bounds were set after these trials and
# before the page's first run on the reporting seeds. Three things were changed after that run. "The noise scale grows"
# failed, measured by single looks at a restless net: we now average it over each epoch, and only compare. And that a
# large batch at its own rate is as rough as a small one turned out too strong: the factors above took its place. Runs
# were then shortened for the budget of time (24 epochs for 28 at batches of 1,024, 600 steps for 1,000 on few images, one
# rate fewer). And bounds on ratios of seconds were dropped when a busy machine failed one. Drafts of this page read the
# test images as well, but no setting was chosen by them.
# :::
#
# (sec-mb-lectures)=
# ## What the lectures said
#
# The [ledger](claims.md) keeps the account.
#
# - **"Larger batches: smoother training, slower convergence in epochs, more memory"** (4, 16, 256 and 1,024)
#   {cite}`cab420`. Slower in epochs: yes, {glue:text}`mb-epochs-1024.mean:.1f` against {glue:text}`mb-epochs-4.mean:.1f`,
#   each at its own rate. More memory: {glue:text}`mb-memory-1024.mean:.0f` times, for one gradient of this small net.
#   Smoother: {glue:text}`mb-rough-ratio-common.mean:.0f` times at one common rate,
#   {glue:text}`mb-rough-ratio-own.mean:.1f` times with each at its own; see {ref}`the first trap <sec-mb-traps>`.
# - **"Full-batch is heavy, single-example noisy, mini-batch smoother and parallel"** {cite}`trinh2021`. A single example
#   has {glue:text}`mb-noise-1-over-64.mean:.0f` times the squared noise of a batch of 64, as the theory says to a few per
#   cent. And the full batch is heavy for what it gives: from 256 on, more examples hardly save a step.
# - **"Averaging advocates against mini-batches, because updates will be very small"** {cite}`schonhuth2019`. An average
#   is not smaller for having more terms: all batches have the same mean gradient, and only the noise shrinks. An *epoch*
#   of large batches moves less, since it has fewer steps.
# - **"Multiplying the learning rate by the batch size mends it: the mean becomes the sum"** {cite}`schonhuth2019`. As
#   algebra, exactly. As advice, up to the bend, here at {glue:text}`mb-bend.mean:.0f`. At 16 times the batch and the rate
#   of our batches of 16 the net reads {glue:text}`mb-rule-256`.
# - **"Matrix techniques take about half of the time"** {cite}`schonhuth2019`. {glue:text}`mb-loop-ratio-10.mean:.0f`
#   times as fast in batches of ten.
# - **"Batch size is fairly independent of the other hyperparameters"** {cite}`schonhuth2019`. Of the learning rate it is
#   not.
# - **"Can train in fewer epochs, but each small batch is less representative"** {cite}`cab420`. Both halves of it are
#   {eq}`eq-mb-scaling`.
#
# (sec-mb-traps)=
# ## Where it goes wrong
#
# **One rate for all sizes.** The commonest comparison changes the batch and leaves the rate, or a library's default,
# alone. Here is 1/32, the best for batches of 4, given to batches of 1,024; and the roughness of the last sixteen looks
# at the accuracy.

# %%
calipers.record(
    "mb-end-own-1024",
    of_seeds(raced["reads 1024"].values[:, -16:, OWN].mean(axis=1)),
    "%",
    examples=held_back,
    title="Held-back accuracy over the last sixteen looks, batches of 1,024, own rate",
)
calipers.record(
    "mb-end-common-1024",
    of_seeds(raced["reads 1024"].values[:, -16:, COMMON].mean(axis=1)),
    "%",
    examples=held_back,
    compared_with="mb-end-own-1024",
    title="Held-back accuracy over the last sixteen looks, batches of 1,024, rate 1/32",
)
for size, kind, net_number, against in (
    (4, "own", OWN, {}),
    (1024, "common", COMMON, {}),
    (1024, "own", OWN, {"compared_with": "mb-rough-own-4"}),
):
    calipers.record(
        f"mb-rough-{kind}-{size}",
        of_seeds(raced[f"rough {size}"].values[:, net_number]),
        "points",
        title=f"Roughness in batches of {size}, {kind} rate",
        **against,
    )
rough_4 = raced["rough 4"].values[:, OWN]
for kind, net_number, bounds in (("common", COMMON, {"at_least": 3}), ("own", OWN, {})):
    calipers.record(
        f"mb-rough-ratio-{kind}",
        of_seeds(rough_4 / raced["rough 1024"].values[:, net_number]),
        title=f"Roughness in batches of 4 for that in batches of 1,024, {kind} rate",
        **bounds,
    )


# %% [markdown]
# At the rate of 1/32 the large batch lies at {glue:text}`mb-end-common-1024`, at its own at {glue:text}`mb-end-own-1024`
# (the first against the second: {glue:text}`mb-end-common-1024.verdict`). And look at what becomes of "smoother". At the
# common rate the curve of batches of 4 is {glue:text}`mb-rough-ratio-common.mean:.0f` times as rough as that of batches
# of 1,024. Let the large batch have its own rate, and the factor shrinks to {glue:text}`mb-rough-ratio-own.mean:.1f` (own
# against own: {glue:text}`mb-rough-own-1024.verdict`). A large batch is smooth as long as you leave its advantage unused.
# Spend it on a larger rate, and most of the roughness returns, now less as noise, we suspect, than as overshooting: 1/4
# is close to the ceiling.
#
# **The ragged last batch.** 10,000 examples make 9 batches of 1,024 and one of 784. That is harmless. But 9,217 examples
# make nine batches and a last one of *one* example, which is given a step at the rate of 1,024. How much harm does it do?
# We take a net that trained in batches of 1,024 and step once with a single training image; 50 images, each from the same
# net.

# %%
def ragged(seed):
    net, rng = raced["net 1024"][seeds.index(seed)], np.random.default_rng([seed, 4])
    before = accuracy(net, x_val, y_val)[0]
    lost = {1: [], 1024: []}
    for size, losses in lost.items():
        for _ in range(50):
            batch = rng.permutation(len(x_train))[:size]
            slopes = gradient(net, x_train[batch], y_train[batch])[1]
            stepped = [a - np.float32(chosen[1024]) * s for a, s in zip(net, slopes)]
            losses.append(before - accuracy(stepped, x_val, y_val)[0])
    return {f"lost {size}": np.mean(losses) for size, losses in lost.items()}


ragged_steps = calipers.over_seeds(ragged, seeds, "ragged batch")
for size in (1024, 1):
    calipers.record(
        f"mb-ragged-{size}",
        ragged_steps[f"lost {size}"],
        "points",
        greater_than="mb-ragged-1024" if size == 1 else None,
        title=f"Held-back accuracy lost in one step on a batch of {size} at the rate of 1,024",
    )

# %%
counter = in_keras.optimizer.iterations
before = int(keras.ops.convert_to_numpy(counter))
in_keras.fit(x_train[:65], y_train[:65], batch_size=64, verbose=0)
calipers.record(
    "mb-fit-steps",
    int(keras.ops.convert_to_numpy(counter)) - before,
    equals=2,
    title="Steps of fit on 65 examples in batches of 64",
)


# %% [markdown]
# One step on one example costs {glue:text}`mb-ragged-1` on average; on a full batch it costs
# {glue:text}`mb-ragged-1024`. If this happens to be the last step of an epoch, it spoils every validation figure that you
# see. Drop the rest, as `train` above does, or give it its share of the rate. Keras's `fit` keeps it: on 65 examples in
# batches of 64 it makes {glue:text}`mb-fit-steps` steps.
#
# **The sum that was a mean.** Somebody writes the loss as a sum over the batch, or changes `reduction`, and carries on
# with the old rate: in batches of 64 that is a rate {given}`64 times` too large.

# %%
def summed(seed):
    result = {}
    for name, rate in (("mean", chosen[64]), ("sum", 64 * chosen[64])):
        net = random_net(seed, sizes)
        train(net, x_train, y_train, [rate], 64, max(1, len(x_train) // 64), seed)
        result[name] = accuracy(net, x_val, y_val)[0]
    return result


sums = calipers.over_seeds(summed, seeds, "sum for mean")
for name, bound in (("mean", {"at_least": 60}), ("sum", {"at_most": 40})):
    calipers.record(
        f"mb-loss-{name}",
        sums[name],
        "%",
        examples=held_back,
        title=f"Held-back accuracy after an epoch, loss as a {name} over the batch",
        **bound,
    )

# %% [markdown]
# The mean reads {glue:text}`mb-loss-mean`, the sum {glue:text}`mb-loss-sum`: ten classes, one guess.
#
# ## Exercises
#
# ```{exercise} Count
# :label: ex-mb-count
#
# A training set has 60,000 images. How many steps has an epoch in batches of 1, 128, 256 and 60,000, and how large is the
# last batch? By which factor does the noise of the gradient (its root mean square) differ between batches of 4 and of
# 1,024?
# ```
#
# ````{solution-start} ex-mb-count
# :class: dropdown
# ````
#
# 60,000, 469, 235 and 1 steps. The last batches hold 1, 96, 96 and 60,000 images. The squared noise differs by 256, so
# the noise by 16. (Dealing without replacement changes that by less than {given}`1 %` here.)

# %%
for size, steps, rest in (
    (1, 60_000, 1),
    (128, 469, 96),
    (256, 235, 96),
    (60_000, 1, 60_000),
):
    assert math.ceil(60_000 / size) == steps
    assert 60_000 - (steps - 1) * size == rest
dealt = [(60_000 - size) / 59_999 / size for size in (4, 1024)]
assert 16 < math.sqrt(dealt[0] / dealt[1]) < 16.16

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} All the hands
# :label: ex-mb-hands
#
# Prove the formula for dealing without replacement {eq}`eq-mb-variance` once more, by a computer: for six gradients of
# two numbers, list every batch of every size.
# ```
#
# ````{solution-start} ex-mb-hands
# :class: dropdown
# ````
#
# All batches are equally likely, so the expectation is a plain mean over the list.

# %%
six = np.random.default_rng(1).normal(size=(6, 2))
centre = six.mean(axis=0)
single_noise = ((six - centre) ** 2).sum(axis=1).mean()
for size in range(1, 7):
    hands = itertools.combinations(range(6), size)
    away = [np.sum((six[list(hand)].mean(axis=0) - centre) ** 2) for hand in hands]
    assert np.isclose(np.mean(away), single_noise / size * (6 - size) / 5)

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} The noise scale from two batch sizes
# :label: ex-mb-two
#
# On a large machine nobody computes `noise`. Show that $\operatorname{E} \lVert g_B \rVert^2 = \lVert G \rVert^2 + S/B$
# with replacement, and get $S$ and $\lVert G \rVert^2$ from the mean squared lengths of gradients at two batch sizes. Try
# it with 16 and 256 at a fresh net.
# ```
#
# ````{solution-start} ex-mb-two
# :class: dropdown
# ````
#
# $\lVert g_B \rVert^2 = \lVert G + (g_B - G) \rVert^2$, and the mixed term vanishes on average. Two sizes $B < B'$ give
# two linear equations: $S = (m_B - m_{B'}) / (1/B - 1/B')$ and $\lVert G \rVert^2 = m_{B'} - S/B'$, if $m_B$ is the mean
# squared length. {cite:t}`mccandlish2018` estimate it so.

# %%
fresh, rng = random_net(0, sizes), np.random.default_rng(6)
lengths = {16: [], 256: []}
for size, squares in lengths.items():
    for _ in range(200):
        batch = rng.choice(pool, size)
        estimate = flat(gradient(fresh, x_pool[batch], y_pool[batch])[1])
        squares.append(estimate @ estimate)
m_16, m_256 = np.mean(lengths[16]), np.mean(lengths[256])
s_found = (m_16 - m_256) / (1 / 16 - 1 / 256)
scale_found = s_found / (m_256 - s_found / 256)
single, full = noise(fresh, x_pool, y_pool)
print(f"from two sizes {scale_found:.1f}, exactly {single / (full @ full):.1f}")
assert 0.7 < scale_found / (single / (full @ full)) < 1.4

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Predict a rate
# :label: ex-mb-predict
#
# Suppose that at batches of 16 the best rate is 1/16, and that the noise scale is 48. Which rates does {eq}`eq-mb-scaling` predict for 4,
# 64, 256 and 1,024? And the linear rule? Which number is the ceiling? Compare with the rates that the map chose.
# ```
#
# ````{solution-start} ex-mb-predict
# :class: dropdown
# ````
#
# $\eta_{\max} = \frac1{16} (1 + 48/16) = \frac14$. So $\eta(B) = \frac14 / (1 + 48/B)$: 0.019, 0.143, 0.211 and 0.239.
# The rule says 0.016, 0.25, 1 and 4. On a grid of factors of two the first list is what the map chose, give or take a
# cell.

# %%
predicted = {size: 1 / 4 / (1 + 48 / size) for size in chosen}
assert np.isclose(predicted[16], 1 / 16)
for size, rate in chosen.items():
    assert 1 / 2 <= predicted[size] / rate <= 2
assert rule(1024) / predicted[1024] > 16


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Accumulate by hand
# :label: ex-mb-accumulate
#
# Compute the gradient of a batch of 64 from four batches of 16, in NumPy. Then put a normalisation over the batch
# ({ref}`batch normalisation <ch-batch-normalisation>`) in front of the net. Do the four quarters still give the whole?
# ```
#
# ````{solution-start} ex-mb-accumulate
# :class: dropdown
# ````
#
# Without it the mean of the four is the gradient of the 64, because the loss is a mean of terms of single examples. With
# it an example's term depends on its companions: other quarters, other terms.

# %%
def normalised(x):
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-3)


def quarters_agree(prepare):
    net, batch = random_net(2, sizes, dtype="float64"), x_train[:64].astype(float)
    whole = flat(gradient(net, prepare(batch), y_train[:64])[1])
    parts = [slice(start, start + 16) for start in range(0, 64, 16)]
    quarters = [
        flat(gradient(net, prepare(batch[p]), y_train[:64][p])[1]) for p in parts
    ]
    return np.allclose(np.mean(quarters, axis=0), whole, rtol=1e-5, atol=1e-7)


assert quarters_agree(lambda x: x)
assert not quarters_agree(normalised)


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Four small steps or one large
# :label: ex-mb-four
#
# The linear rule rests on one approximation: that the gradient hardly changes during $k$ small steps. Take four steps
# with batches of 16 at a rate $\eta$ and one step with the same 64 examples at $4\eta$, from the same net. How far apart
# do they end, relative to the way that they went? How does that depend on $\eta$?
# ```
#
# ````{solution-start} ex-mb-four
# :class: dropdown
# ````
#
# The gradient changes by about $\eta H g$ in a step, so the relative distance is proportional to $\eta$: halve the rate,
# halve the distance. An eighth of the rate leaves an eighth of it, but for the few units whose ReLU switches on the way. At
# small rates the rule is as good as exact.

# %%
def ends_apart(rate):
    start_net = random_net(3, sizes, dtype="float64")
    small_steps = [array.copy() for array in start_net]
    for first in range(0, 64, 16):
        part = slice(first, first + 16)
        slopes = gradient(small_steps, x_train[part].astype(float), y_train[part])[1]
        small_steps = [a - rate * s for a, s in zip(small_steps, slopes)]
    slopes = gradient(start_net, x_train[:64].astype(float), y_train[:64])[1]
    way = 4 * rate * flat(slopes)
    return np.linalg.norm(flat(small_steps) - (flat(start_net) - way)) / np.linalg.norm(
        way
    )


distances = [ends_apart(rate) for rate in (1 / 256, 1 / 512, 1 / 1024, 1 / 2048)]
print("relative distances:", np.round(distances, 3))
assert 4 < distances[0] / distances[3] < 16


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Project: a gradual start
# :label: ex-mb-warmup
#
# {cite:t}`goyal2017` raise the rate linearly over the first epochs. Give batches of 64 and 256 the rule's rate and raise
# it over the first third of the steps. Does that move the ceiling? Then find out what the gradual start is good for: try
# rates just below the ceiling, deeper nets, more seeds.
# ```
#
# ````{solution-start} ex-mb-warmup
# :class: dropdown
# ````
#
# One seed, and no claim. A gradual start helps where the curvature is high only at the beginning. A rate of 1 is too much
# for this net at any time: it bursts a little later.

# %%
def gradual(share):
    return min(1, 3 * share)


for size in (64, 256):
    for shape in (None, gradual):
        net = random_net(9, sizes)
        steps = 3 * (len(x_train) // size)
        train(net, x_train, y_train, [rule(size)], size, steps, 9, shape=shape)
        name = "gradual start" if shape else "full rate at once"
        print(f"batches of {size}, {name}: {accuracy(net, x_val, y_val)[0]:.1f} %")

# %% [markdown]
# ````{solution-end}
# ````
#
# ## Summary
#
# - Every batch is right on average. Its squared noise is $S/B$, and $(N-B)/(N-1)$ times that without replacement.
# - The noise scale $S/\lVert G \rVert^2$ parts two regimes. Below it, twice the batch takes twice the rate and half the
#   steps. Above it, more examples buy nothing. Here the steps bend at {glue:text}`mb-bend.mean:.0f`, where the gradients
#   said {glue:text}`mb-scale-3.mean:.0f`.
# - The rate has a ceiling that belongs to the curvature. The linear rule does not know it.
# - Larger batches never save examples. They save steps, and on a machine that computes a large batch as fast as a small
#   one, time.
# - Before you say that one batch size beats another: tune the rate of both, and say what you held equal.
#
# **Further reading.** {cite:t}`robbins1951` began it. {cite:t}`bottou2018` review the theory of stochastic gradients for
# learning. {cite:t}`wilson2003` argued early that full batches waste work; {cite:t}`goyal2017` made the linear rule
# famous, {cite:t}`mccandlish2018` and {cite:t}`zhang2019noisy` say where it ends, {cite:t}`shallue2019` measured it most
# thoroughly. {cite:t}`smith2018dont` raise the batch where others lower the rate.
#
# ```{provenance}
# ```
