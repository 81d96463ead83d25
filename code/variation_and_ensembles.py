# Written from book/variation_and_ensembles.md by `make scripts`. Edit that page, not this file.

# %% [markdown]
# (ch-variation-and-ensembles)=
# # Variation and ensembles
#
# **Train the same net ten times, and you get ten different nets. Is that a nuisance or a gift?** Both. Ten nets that
# differ in nothing but their seed read {glue:text}`ens-member.mean:.2f` % of Fashion-MNIST's test pictures, give or take
# {glue:text}`ens-spread.mean:.2f` points, and any two of them disagree on {glue:text}`ens-pair-disagree.mean:.1f` % of
# the pictures. The average of the ten reads {glue:text}`ens-average.mean:.2f` %, {glue:text}`ens-gain-best.mean:.2f`
# points more than the best of them; and it knows better when it does not know.
#
# :::{admonition} Before you start
# :class: tip
#
# **You will learn** where the spread between identical trainings comes from and how large it has to be; why an average of
# nets is never worse than its average member; when voting and averaging differ; what the second, the fifth and the tenth
# net buy; how to use disagreement as a measure of confidence, and when it fails; and what a seed can and cannot promise.
#
# **You need** {ref}`the convolutional net <ch-convolutional-networks>`, softmax and cross-entropy; mean and variance.
# Words set like {term}`ensemble` lead to the [glossary](glossary.md), symbols to the [notation](notation.md) page.
#
# **It takes** three quarters of an hour to read. The code has a budget of three minutes in the quick profile on two CPU
# cores. The full one, which trains convolutional nets like the lectures', took an hour and a half on one of them. The last line says
# what it took.
# :::

# %%
import itertools
import math
import os

# One core for NumPy: our matrices are small, and two cores would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
from keras import layers
from numpy.lib.stride_tricks import sliding_window_view
from plotly.subplots import make_subplots
from scipy.ndimage import gaussian_filter
from scipy.stats import binom, norm

import calipers

calipers.style()

# %% [markdown]
# Every budget of this chapter stands in one cell; the {term}`profile` picks a column. In quick a *seed* is a whole
# ensemble: three seeds are three times ten nets, thirty trainings, none shared.

# %%
seeds = calipers.choose(smoke=[0], quick=[0, 1, 2], full=[0, 1, 2, 3, 4])
members = calipers.choose(smoke=5, quick=10, full=10)
examples = calipers.choose(smoke=500, quick=50_000, full=50_000)
tested = calipers.choose(smoke=300, quick=10_000, full=10_000)
epochs = calipers.choose(smoke=1, quick=8, full=12)
digit_examples = calipers.choose(smoke=500, quick=60_000, full=60_000)
digit_epochs = calipers.choose(smoke=1, quick=5, full=12)
digit_members = calipers.choose(smoke=3, quick=5, full=5)
few = calipers.choose(smoke=200, quick=10_000, full=10_000)
steps = calipers.choose(smoke=10, quick=1_500, full=3_000)
cycle = calipers.choose(smoke=5, quick=1_500, full=3_000)

# %% [markdown]
# The pictures are Fashion-MNIST {cite}`xiao2017`: grey photographs of ten kinds of clothes, 28 by 28 pixels. Of the
# 60,000 for training we hold back the last 10,000. Whatever is chosen on this page is chosen on those.

# %%
names = ["top", "trouser", "pullover", "dress", "coat"]
names += ["sandal", "shirt", "sneaker", "bag", "boot"]


def load(data):
    """Training and test pictures from 0 to 1 with one channel, and their labels."""
    (x, y), (x_test, y_test) = calipers.datasets.load(data)
    x, x_test = ((p[..., None] / 255).astype("float32") for p in (x, x_test))
    return x, y.astype(int), x_test[:tested], y_test[:tested].astype(int)


x_all, y_all, x_test, y_test = load("fashion_mnist")
x_train, y_train = x_all[:-10_000][:examples], y_all[:-10_000][:examples]
x_val, y_val = x_all[-10_000:][:tested], y_all[-10_000:][:tested]
x_train.shape, x_val.shape, x_test.shape


# %% [markdown]
# ## Two kinds of luck
#
# **Ten nets of the same make sit the same test. By how much should their marks differ?** Two kinds of luck are at work,
# and they are easily confused. Let $r_{mi}$ be 1 if net $m$ reads picture $i$ rightly, else 0, and let $q_i$ be the
# probability that a net trained with a fresh seed reads picture $i$ rightly. Its mean over the pictures of the world is
# $q$, the true accuracy of this make of net.
#
# The first luck is that of the *test set*. Draw a net, draw $n$ pictures, and the number of right ones is a toss of $n$
# coins. The standard error of the accuracy is the {term}`binomial error`
#
# $$ s_\text{binomial} = \sqrt{\frac{q (1 - q)}{n}} . $$ (eq-ens-binomial)
#
# The second is that of the *seed*, and for it the pictures stay as they are. Suppose that an error on one picture tells
# nothing about the same net's errors on the others. Then the accuracy $\frac1n \sum_i r_{mi}$ varies from net to net with
# the variance
#
# $$ s_\text{seed}^2 = \frac{1}{n^2} \sum_i q_i (1 - q_i) . $$ (eq-ens-seed)
#
# How do the two compare? The variance of the $q_i$ over the pictures is $\overline{q_i^2} - q^2$. So
#
# $$ q (1 - q) = q - \overline{q_i^2} + \overline{q_i^2} - q^2
#    = \underbrace{\overline{q_i (1 - q_i)}}_{\text{luck of the seed}} + \underbrace{\operatorname{Var} q_i}_{\text{hard and easy pictures}} . $$ (eq-ens-total)
#
# The binomial error contains both terms; the spread over seeds contains the first only. **So, if errors are independent,
# identical nets on the same test differ by less than the binomial error**, and the more they agree on what is hard, the
# less. The second term is the luck that all ten share. More seeds never average it away.
#
# To measure the first term from $M$ nets, count: $\hat q_i$ is the share of them that is right, and $\frac{M}{M-1}\, \hat
# q_i (1 - \hat q_i)$ has the mean $q_i (1 - q_i)$. (It is the factor that puts $M - 1$ in place of $M$ in the denominator
# of a sample variance.)
#
# ## Why an average helps
#
# **An average of nets cannot be worse than its average member. Why not?** Let $p_m$ be the probabilities that net $m$
# gives to the classes of one picture, $\bar p = \frac1M \sum_m p_m$ their average, and $t$ the one-hot truth. Write
# $p_m - t = (p_m - \bar p) + (\bar p - t)$, square, add up the classes, and average over the nets. The mixed term is $\frac2M
# (\bar p - t) \cdot \sum_m (p_m - \bar p) = 0$, because deviations from a mean add up to zero. So
#
# $$ \underbrace{\lVert \bar p - t \rVert^2}_{\text{the ensemble}} = \underbrace{\frac1M \sum_m \lVert p_m - t \rVert^2}_{\text{its members}}
#    - \underbrace{\frac1M \sum_m \lVert p_m - \bar p \rVert^2}_{\text{ambiguity}} . $$ (eq-ens-ambiguity)
#
# This is the {term}`ambiguity` decomposition of {cite:t}`krogh1994`. It is exact, for each picture. What the average
# gains is what the nets disagree by, and to know *that* one needs no labels. Nets that all agree gain nothing, however
# good they are.
#
# The squared error of probabilities is called the {term}`Brier score`. For the cross-entropy there is an inequality
# instead. The logarithm is concave: the log of a mean is at least the mean of the logs. So
#
# $$ -\log \bar p_y \;\le\; \frac1M \sum_m \bigl( -\log p_{m,y} \bigr) . $$ (eq-ens-jensen)
#
# **Accuracy has no such guarantee.** Three nets give the true one of two classes the probabilities 0.51, 0.51 and 0.1.
# Two of the three are right, the average of 0.37 is wrong.
#
# ### How much, with M nets?
#
# Let $\mu$ be the mean of $p_m$ over all seeds, and $V$ the mean of $\lVert p_m - \mu \rVert^2$. Members are drawn
# independently, so $\bar p$ has the variance $V / M$ about $\mu$, and
#
# $$ \operatorname{E} \lVert \bar p - t \rVert^2 = \lVert \mu - t \rVert^2 + \frac{V}{M} . $$ (eq-ens-law)
#
# The first term is what infinitely many nets would leave. The second halves when $M$ doubles. So two nets bring half of
# all that there is to gain, five bring four fifths, ten bring nine tenths. Each costs as much as the first.
#
# ### Averaging or voting?
#
# A vote rounds every net's probabilities to a single one before it adds them up. If each of $M$ voters is right with the
# same probability $q > \tfrac12$, *independently*, the majority is right with
#
# $$ P = \sum_{k > M/2} \binom{M}{k} q^k (1 - q)^{M - k} , $$ (eq-ens-vote)
#
# which goes to 1 quickly: for $q = 0.9$ and $M = 9$ it is 0.999. {cite:t}`hansen1990` built neural ensembles on this
# argument. The catch is the word *independently*. By {eq}`eq-ens-total` nets share their hard pictures, and there the
# vote of a hundred is as wrong as that of one. We shall measure how far {eq}`eq-ens-vote` promises too much.
#
# (sec-ens-scratch)=
# ## From scratch in NumPy
#
# All arrays of probabilities have the shape (nets, pictures, classes). Here is everything that this chapter does to them.
# A tie in a vote goes to the class with the larger average probability; averages lie below 1, so adding them to the
# counts settles ties and nothing else.

# %%
def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def average(p):
    """The mean of the nets' probabilities."""
    return p.mean(axis=0)


def votes(p):
    """How many nets choose each class: shape (pictures, classes)."""
    return np.eye(p.shape[-1])[p.argmax(axis=-1)].sum(axis=0)


def vote(p):
    """The class with the most votes; the average settles ties."""
    return (votes(p) + average(p)).argmax(axis=-1)


def accuracy(p, labels):
    """Share of right answers, in per cent, of every net or of one average."""
    return 100 * (p.argmax(axis=-1) == labels).mean(axis=-1)


def brier(p, labels):
    """Squared distance of the probabilities from the truth, for every picture."""
    return ((p - np.eye(p.shape[-1])[labels]) ** 2).sum(axis=-1)


def cross_entropy(p, labels):
    """Mean of minus the log of the probability of the true class, in nats."""
    true = np.take_along_axis(p, np.broadcast_to(labels, p.shape[:-1])[..., None], -1)
    return -np.log(np.maximum(true, 1e-12)).mean(axis=(-2, -1))


def ambiguity(p):
    """Mean squared distance of the nets from their average, for every picture."""
    return ((p - average(p)) ** 2).sum(axis=-1).mean(axis=0)


def calibration_error(p, labels, bins=15):
    """Expected calibration error of one set of probabilities, in points."""
    sure, right = p.max(axis=-1), p.argmax(axis=-1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=sure - right, minlength=bins)
    return 100 * np.abs(gaps).sum() / len(labels)


def rejection_curve(p, labels):
    """Accuracy on the surest 1, 2, ... all pictures, in per cent."""
    right = (p.argmax(axis=-1) == labels)[np.argsort(-p.max(axis=-1), kind="stable")]
    return 100 * np.cumsum(right) / np.arange(1, len(right) + 1)


# %% [markdown]
# And a net: one hidden layer of ReLU. As in earlier chapters every array's first axis counts *nets*, so that a whole
# ensemble trains side by side. Each has a seed for its first weights and another for the order of its pictures.

# %%
def random_stack(weight_seeds, sizes, dtype="float32"):
    """He's weights, a net for every seed, and biases of zero: [w1, b1, w2, b2]."""
    rngs = [np.random.default_rng(seed) for seed in weight_seeds]
    stack = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        gain = math.sqrt(2 / fan_in)
        drawn = [gain * rng.normal(size=(fan_in, fan_out)) for rng in rngs]
        stack += [np.array(drawn, dtype), np.zeros((len(rngs), 1, fan_out), dtype)]
    return stack


def stack_logits(stack, x):
    w1, b1, w2, b2 = stack
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def stack_slopes(stack, x, labels):
    """The slopes of every net's own cross-entropy; x (nets, batch, inputs)."""
    w1, b1, w2, b2 = stack
    hidden = np.maximum(x @ w1 + b1, 0)
    p = softmax(hidden @ w2 + b2)
    above = (p - np.eye(p.shape[-1], dtype=p.dtype)[labels]) / labels.shape[-1]
    below = above @ w2.swapaxes(-1, -2) * (hidden > 0)
    slopes = [x.swapaxes(-1, -2) @ below, below.sum(-2, keepdims=True)]
    slopes += [hidden.swapaxes(-1, -2) @ above, above.sum(-2, keepdims=True)]
    return slopes


def deal(order_seeds, count, steps, batch_size):
    """For every net the pictures of every step: shape (nets, steps, batch)."""
    dealt = []
    for seed in order_seeds:
        rng, need = np.random.default_rng([seed, 1]), steps * batch_size
        rounds = [rng.permutation(count) for _ in range(math.ceil(need / count))]
        dealt.append(np.concatenate(rounds)[:need].reshape(steps, batch_size))
    return np.array(dealt)


def train_stack(stack, x, y, dealt, peak=0.2, cycles=1):
    """Gradient descent in place. The rate falls along a cosine, once in every cycle.

    cycles is one number for all nets or one for each. Returns copies of the stack,
    one at the end of each of the most frequent cycles.
    """
    steps, copies = dealt.shape[1], []
    length = steps / np.broadcast_to(cycles, len(dealt))
    for step in range(steps):
        batch = dealt[:, step]
        slopes = stack_slopes(stack, x[batch], y[batch])
        rates = peak / 2 * (1 + np.cos(np.pi * (step % length) / length))
        for array, slope in zip(stack, slopes):
            array -= rates.astype(array.dtype)[:, None, None] * slope
        if (step + 1) % round(length.min()) == 0:
            copies.append([array.copy() for array in stack])
    return copies


# %% [markdown]
# Is it right? {term}`Finite differences` judge the gradient: in double precision each slope that we try must agree to a
# millionth.

# %%
rng = np.random.default_rng(0)
tiny = [a + rng.normal(0, 0.1, a.shape) for a in random_stack([0, 1], [9, 7, 10], "d")]
x_tiny, y_tiny = rng.normal(size=(2, 6, 9)), rng.integers(10, size=(2, 6))
slopes, disputed = stack_slopes(tiny, x_tiny, y_tiny), 0
for number, array in enumerate(tiny):
    for place in np.ndindex(array.shape):
        kept, losses = array[place], []
        for nudge in (1e-6, -1e-6):
            array[place] = kept + nudge
            p = softmax(stack_logits(tiny, x_tiny))
            losses.append(cross_entropy(p, y_tiny)[place[0]])
        array[place] = kept
        slope = (losses[0] - losses[1]) / 2e-6
        mine = slopes[number][place]
        disputed += abs(slope - mine) > 1e-6 * abs(slope) + 1e-9
calipers.record(
    "ens-gradient-disputed",
    int(disputed),
    equals=0,
    title="Slopes of the stack that finite differences dispute",
)


# %% [markdown]
# **Keras** judges the rest: the same first weights and the same batches have to lead to the same net after fifty steps,
# and Keras's layers, losses and metrics have to say what our formulas say. For these and for later experiments on small
# nets we halve the pictures' sides, so that every 2×2 block becomes its mean.

# %%
def centred(pictures):
    """A row a picture, with a mean near 0 and a standard deviation near 1."""
    return (pictures.reshape(len(pictures), -1) - np.float32(0.3)) / np.float32(0.35)


def halved(pictures):
    """The mean of every 2x2 block, centred: one row of 196 values a picture."""
    return centred(pictures.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)))


x_few, y_few = halved(x_train[:few]), y_train[:few]
x_few_val, x_few_test = halved(x_val), halved(x_test)

twin = keras.Sequential([keras.Input((196,)), layers.Dense(32, activation="relu")])
twin.add(layers.Dense(10))
stack = random_stack([0, 1, 2], [196, 32, 10])
twin.set_weights([stack[0][0], stack[1][0, 0], stack[2][0], stack[3][0, 0]])
twin.compile(
    keras.optimizers.SGD(0.3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
dealt = deal([0, 1, 2], few, 50, 25)
flat = dealt[0].ravel()
twin.fit(x_few[flat], y_few[flat], batch_size=25, shuffle=False, verbose=0)
for step in range(50):
    batch = dealt[:, step]
    for array, slope in zip(stack, stack_slopes(stack, x_few[batch], y_few[batch])):
        array -= np.float32(0.3) * slope
apart = 0
for mine, theirs in zip(stack, twin.get_weights()):
    apart += int(np.sum(np.abs(mine[0].reshape(theirs.shape) - theirs) > 1e-4))
calipers.record(
    "ens-keras-apart",
    apart,
    equals=0,
    title="Parameters that differ from Keras's by over 0.0001 after 50 steps",
)


# %%
def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


p = softmax(stack_logits(stack, x_few_test[:200])).astype("float64")
y_some = y_test[:200]
one_hot = np.eye(10)[y_some]
mean_of_layers = array(layers.Average()(list(p)))
right = keras.metrics.SparseCategoricalAccuracy()
right.update_state(y_some, average(p))
entropy = keras.losses.SparseCategoricalCrossentropy()(y_some, average(p))
squares = 10 * array(keras.losses.mean_squared_error(one_hot, average(p)))
pairs = [
    (average(p), mean_of_layers),
    (accuracy(average(p), y_some), 100 * float(right.result())),
    (cross_entropy(average(p), y_some), float(entropy)),
    (brier(average(p), y_some), squares),
]
calipers.record(
    "ens-keras-disagrees",
    sum(not np.allclose(mine, theirs, atol=1e-4) for mine, theirs in pairs),
    equals=0,
    title="Formulas (average, accuracy, cross-entropy, Brier) that Keras disputes",
)
gap = brier(p, y_some).mean(axis=0) - ambiguity(p) - brier(average(p), y_some)
calipers.record(
    "ens-ambiguity-fails",
    int(np.sum(np.abs(gap) > 1e-12)),
    equals=0,
    title="Pictures on which the ambiguity decomposition does not hold",
)


# %% [markdown]
# ## The same in Keras
#
# The lecture's ten nets are "simple CNNs" of 25,034 parameters. Here is such a net. Building and compiling it ten times
# would cost more than a minute, so we compile *one* and start it afresh for every seed: new weights, an optimiser that
# has forgotten all, a new order of the pictures. NumPy draws both from the seed, so the start is the same on every
# backend.

# %%
def small_net():
    """The lecture's: three convolutions, two poolings, a dense layer, ten logits."""
    net = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (8, 16, 32):
        net.add(layers.Conv2D(filters, 3, activation="relu"))
        if filters < 32:
            net.add(layers.MaxPooling2D(2))
    net.add(layers.Flatten())
    net.add(layers.Dense(64, activation="relu"))
    net.add(layers.Dense(10))
    return net


def compiled(model, pictures, epochs, peak=0.01, batch_size=125):
    """Compile for Adam with a rate that warms up to `peak` and falls to zero."""
    total = max(2, epochs * pictures // batch_size)
    warm_up = max(1, total // 5)
    rate = keras.optimizers.schedules.CosineDecay(
        peak / 10, total - warm_up, warmup_target=peak, warmup_steps=warm_up
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, steps_per_execution=20)
    return model


def restart(model, fresh, rng):
    """First weights from `rng` (He's; the rest as in `fresh`) and an optimiser as new."""
    drawn = []
    for weights in fresh:
        scale = math.sqrt(2 / math.prod(weights.shape[:-1]))
        kernel = weights.ndim > 1
        drawn.append(rng.normal(0, scale, weights.shape) if kernel else weights)
    model.set_weights(drawn)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape))


def train(model, fresh, seed, x, y, epochs, batch_size=125, change=None):
    """Train from a seed, in place; `change(pictures, rng)` alters them, but not in the end."""
    rng = np.random.default_rng(seed)
    restart(model, fresh, rng)
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        pictures = x[order]
        if change and epoch < epochs - 1:
            pictures = change(pictures, rng)
        model.fit(pictures, y[order], batch_size=batch_size, shuffle=False, verbose=0)


def probabilities(model, x):
    logits = model.predict(x, batch_size=1000, verbose=0)
    return softmax(logits.astype("float64"))


calipers.record(
    "ens-parameters",
    small_net().count_params(),
    equals=25_034,
    title="Parameters of the lecture's net",
)

# %% [markdown]
# On two cores one such net takes the better part of a minute, and thirty take half an hour: the full profile trains them.
# **The quick profile trains dense nets of 128 units side by side**, all ten of an ensemble in one stack. They do a little
# worse than the lecture's, and every effect of this chapter shows.
#
# (sec-ens-experiment)=
# ## The experiment: three times ten nets
#
# :::{admonition} How these settings were chosen
# :class: note
#
# Not without a detour. In a first run the nets saw pixels from 0 to 1, at a peak rate of 0.3 that had won on held-back
# pictures. They had hardly finished learning, agreed too well, and failed six of our bounds *on the test pictures*: that
# a net reads {given}`87.5 %`, that averaging ten gains half a point, that five nets read {given}`98 %` of the digits, among others. So we
# centred the pixels, gave the nets for digits a fifth epoch, and chose the rate again, on held-back pictures and with
# seeds from 100 on that no table uses: of 0.05, 0.1 and 0.2, each with two seeds. The largest won, so that a still larger
# one might do better. The bounds stayed, but for four: that on the forecast was so wide that a forecast of no gain at all
# would have passed, and is narrower now; five nets were to read {given}`98 %` of the digits, and averaging to take {given}`5 %` off the
# Brier score; both missed it, and state no such bound now, since no sentence needs one; and the spread with validation
# sets of one's own cleared its noise only when we averaged over ten ways to deal these sets out. Three of our
# expectations of that run, that a lucky seed is worth less on other pictures, that snapshots differ less than nets, that
# tempering too early hurts, became open questions, whose verdicts the page prints.
#
# The convolutional nets of the full profile were chosen alike, with seeds from 100 on: trained on 50,000 digits they were
# scored on the other 10,000. Ten nets for clothes, at the rate and for the epochs of the page on convolutional networks, averaged
# to {given}`92.23 %` there, one alone to {given}`90.4 %`. For digits, five nets like that page's recipe voted 33 wrong;
# with half as many maps again two nets averaged to 32 wrong, so we took those. Twenty epochs in place of twelve did
# nothing for the one net that tried them.
# :::
#
# Net $m$ of seed $s$ starts from the number $10 s + m$. It says what it thinks of the held-back pictures, of the test
# pictures, and, for later, of a thousand handwritten digits, which are no clothes at all.

# %%
x_digits, y_digits, x_digits_test, y_digits_test = load("mnist")
x_digits, y_digits = x_digits[:digit_examples], y_digits[:digit_examples]
strangers = x_digits_test[:1000]


def side_by_side(numbers, x, y, epochs, views, **_):
    """Dense nets in one stack: what each says of every view."""
    stack = random_stack(numbers, [784, 128, 10])
    turns = deal(numbers, len(x), epochs * len(x) // 125, 125)
    train_stack(stack, centred(x), y, turns)
    views = [stack_logits(stack, centred(view)) for view in views]
    return [softmax(view.astype("float64")) for view in views]


def one_by_one(numbers, x, y, epochs, views, build=small_net, change=None):
    """Keras nets, one after the other: what each says of every view."""
    model, fresh, said = compiled(build(), len(x), epochs), build().get_weights(), []
    for number in numbers:
        train(model, fresh, number, x, y, epochs, change=change)
        said.append([probabilities(model, view) for view in views])
    return [np.array(p) for p in zip(*said)]


train_nets = calipers.choose(smoke=side_by_side, quick=side_by_side, full=one_by_one)


def ensemble(seed):
    numbers = [10 * seed + member for member in range(members)]
    views = {"val": x_val, "test": x_test, "digits": strangers}
    said = train_nets(numbers, x_train, y_train, epochs, views.values())
    return dict(zip(views, said))


nets = calipers.over_seeds(ensemble, seeds, f"{members} nets")
p_test, p_val = nets["test"].values, nets["val"].values


def sample(values):
    """One value for each seed, as a sample."""
    return calipers.Sample(np.array(values, dtype=float), tuple(seeds))


# %% [markdown]
# ### How much do they differ?

# %%
def kinds_of_luck(p, labels):
    """Spread of the nets' accuracies, its prediction and the binomial error, in points."""
    right = p.argmax(axis=-1) == labels
    nets, pictures = right.shape
    q, mean = right.mean(axis=0), right.mean()
    luck = (q * (1 - q)).sum() * nets / (nets - 1)
    spread = right.mean(axis=1).std(ddof=1)
    binomial = math.sqrt(mean * (1 - mean) / pictures)
    return 100 * spread, 100 * math.sqrt(luck) / pictures, 100 * binomial


marks = np.array([accuracy(p, y_test) for p in p_test])  # (seeds, nets)
marks_val = np.array([accuracy(p, y_val) for p in p_val])
share = len(x_val) // members
turns = (np.arange(members)[:, None] + np.arange(members)) % members
by_part = [
    [accuracy(q, y) for q, y in zip(np.split(p[:, : share * members], members, axis=1),
                                    np.split(y_val[: share * members], members))]
    for p in p_val
]  # fmt: skip
by_part = np.array(by_part)  # (seeds, parts, nets)
own = by_part[:, turns, np.arange(members)]  # (seeds, ways to deal the parts, nets)
spread, predicted, binomial = np.transpose([kinds_of_luck(p, y_test) for p in p_test])
mean_q = marks.mean(axis=1) / 100
calipers.record(
    "ens-member",
    sample(marks.mean(axis=1)),
    "%",
    examples=tested,
    between=calipers.choose(smoke=(0, 100), quick=(87.5, 90.5), full=(88.5, 91.5)),
    title="Test accuracy of a net, mean of the ten",
)
calipers.record(
    "ens-binomial",
    sample(binomial),
    "points",
    title="Binomial error of the test set",
)
calipers.record(
    "ens-spread",
    sample(spread),
    "points",
    title="Standard deviation of the ten test accuracies",
)
calipers.record(
    "ens-spread-predicted",
    sample(predicted),
    "points",
    title="The same, predicted from independent errors",
)
calipers.record(
    "ens-luck-share",
    sample((predicted / binomial) ** 2),
    between=(0.05, 0.6),
    title="Share of the binomial variance that is luck of the seed",
)
calipers.record(
    "ens-spread-val",
    sample(marks_val.std(axis=1, ddof=1)),
    "points",
    compared_with="ens-spread",
    title="Standard deviation of the ten validation accuracies, same 10,000 pictures",
)
calipers.record(
    "ens-spread-own",
    sample(np.sqrt(own.var(axis=2, ddof=1).mean(axis=1))),
    "points",
    greater_than="ens-spread",
    title="The same, each net with 1,000 validation pictures of its own",
)
calipers.record(
    "ens-spread-val-excess",
    sample(marks_val.std(axis=1, ddof=1) - spread),
    "points",
    at_most=0.3,
    title="How much more the validation accuracies spread, on the same pictures for all",
)
pooled = math.sqrt((spread**2).mean())
calipers.record(
    "ens-spread-ratio",
    sample(spread / predicted),
    between=(0.6, 1.5),
    title="Spread of the nets over the prediction",
)

# %%
figure, axis = plt.subplots()
for row, values in enumerate([marks, marks_val, own[:, 0]]):
    colour = list(calipers.COLOURS.values())[row + 2]
    size = tested if row < 2 else share
    error = 100 * math.sqrt(values.mean() / 100 * (1 - values.mean() / 100) / size)
    low, high = values.mean() - error, values.mean() + error
    axis.fill_betweenx([row - 0.35, row + 0.35], low, high, color=colour, alpha=0.25)
    for group, ten in enumerate(values):
        height = np.full(len(ten), row + 0.2 * (group - (len(values) - 1) / 2))
        axis.plot(ten, height, "o", ms=4, color=colour, alpha=0.8)
axis.set_yticks(
    range(3), ["test\nsame for all", "validation\nsame for all", "validation\nits own"]
)
axis.set(xlabel="accuracy of a net (%)")
axis.invert_yaxis()
calipers.show(
    alt="Accuracies of the nets as dots, in three rows, each over a band of one binomial "
    "error to either side. On the same test pictures the dots stay well inside the band; so "
    "they do on the same validation pictures. With a small validation set of its own each net's "
    f"dot lands anywhere in a band {own.std() / pooled:.0f} times as wide as the dots above."
)

# %% [markdown]
# One net reads {glue:text}`ens-member` of the test pictures. The ten differ by {glue:text}`ens-spread.mean:.2f` points
# (standard deviation). Independent errors predict {glue:text}`ens-spread-predicted.mean:.2f`, and the binomial error is
# {glue:text}`ens-binomial.mean:.2f`. So equations {eq}`eq-ens-seed` and {eq}`eq-ens-total` hold up: about
# {glue:text}`ens-luck-share.mean:.2f` of the binomial variance is luck of the seed. The rest is the test set's, and all
# ten nets share it. {cite:t}`jordan2024` found the same for much larger nets.
#
# **Is a lucky seed a better net?** If it were, the net that does well on one half of the test pictures would do well on
# the other half. Pick the best of ten on one half. How far is it ahead of the ten's mean there, and how far on the other
# half?

# %%
half = tested // 2
halves = np.array(
    [
        [accuracy(p[:, s], y_test[s]) for s in (slice(half), slice(half, None))]
        for p in p_test
    ]
)
seen, unseen, together = [], [], []
for first, second in halves:
    ways = [(first, second), (second, first)]
    seen.append(np.mean([a.max() - a.mean() for a, _ in ways]))
    unseen.append(np.mean([b[a.argmax()] - b.mean() for a, b in ways]))
    together.append(np.corrcoef(first, second)[0, 1])
calipers.record(
    "ens-lucky-new",
    sample(unseen),
    "points",
    title="Lead of the best of ten, on the other half of the test pictures",
)
calipers.record(
    "ens-lucky-seen",
    sample(seen),
    "points",
    compared_with="ens-lucky-new",
    title="Lead of the best of ten, on the half that chose it",
)
calipers.record(
    "ens-halves-correlation",
    sample(together),
    at_most=0.6,
    title="Correlation of the ten nets' accuracies on the two halves",
)

# %% [markdown]
# On the half that chose it the best of ten leads by {glue:text}`ens-lucky-seen`, on the other half by
# {glue:text}`ens-lucky-new` (the first is {glue:text}`ens-lucky-seen.difference:.2f` ±
# {glue:text}`ens-lucky-seen.noise:.2f` more: {glue:text}`ens-lucky-seen.verdict`). (The two halves' accuracies have a
# correlation of {glue:text}`ens-halves-correlation`.) Of ten draws from a normal distribution the largest lies 1.54
# standard deviations above the mean; {numref}`ex-ens-maximum` derives it. {cite:t}`picard2021` tried up to 10,000 seeds
# and found outliers on either side, as one must.
#
# ### On which pictures do they disagree?

# %%
answers = p_test.argmax(axis=-1)  # (seeds, nets, pictures)
counts = np.array([votes(p) for p in p_test])
pair = 1 - (counts * (counts - 1)).sum(-1) / (members * (members - 1))
agreed = counts.max(axis=-1) == members
right = np.array([vote(p) == y_test for p in p_test])
calipers.record(
    "ens-pair-disagree",
    sample(100 * pair.mean(axis=1)),
    "%",
    title="Pictures on which two nets give different answers",
)
calipers.record(
    "ens-unanimous",
    sample(100 * agreed.mean(axis=1)),
    "%",
    title="Pictures on which all nets agree",
)
calipers.record(
    "ens-split-right",
    sample([100 * r[~a].mean() for r, a in zip(right, agreed)]),
    "%",
    title="Accuracy of the vote where the nets do not all agree",
)
calipers.record(
    "ens-unanimous-right",
    sample([100 * r[a].mean() for r, a in zip(right, agreed)]),
    "%",
    greater_than="ens-split-right",
    title="Accuracy of the vote where all nets agree",
)
calipers.record(
    "ens-unanimous-wrong",
    sample([100 * (a & ~r).sum() / (~r).sum() for r, a in zip(right, agreed)]),
    "%",
    at_least=10,
    title="Of the vote's errors, those on which all nets agree",
)

# %% [markdown]
# Any two of the nets answer {glue:text}`ens-pair-disagree` of the pictures differently, though each is right on about
# nine tenths. All ten agree on {glue:text}`ens-unanimous`, and there they are right on {glue:text}`ens-unanimous-right`;
# on the rest the vote is right on {glue:text}`ens-split-right`. But of the vote's errors {glue:text}`ens-unanimous-wrong`
# are unanimous. **Agreement is not truth.**
#
# The lecture shows two of its errors: picture 17, a coat, on which its nets split, and picture 23, a boot, which all of
# its ten nets take for a sandal. Look at them, and at four on which our nets disagree most. Add one net after the other
# and watch the average settle, or not.

# %%
ten = p_test[0]
disputed_most = np.argsort(-ambiguity(ten))
chosen = [17, 23] + [int(i) for i in disputed_most[:4] if i not in (17, 23)]
labelled = {f"{i}: {names[y_test[i]]}": i for i in chosen}


def frame(number, count):
    """The picture, the average of the first nets, and each net by itself."""
    p = np.round(ten[:count, number], 3)
    grey = np.round(100 * x_test[number, ::-1, :, 0]).astype(int)
    colours = [calipers.COLOURS["blue"]] * 10
    colours[y_test[number]] = calipers.COLOURS["green"]
    return [
        go.Heatmap(
            z=grey.tolist(), zmin=0, zmax=100, colorscale="Greys", showscale=False
        ),
        go.Bar(
            x=np.round(p.mean(axis=0), 3).tolist(),
            y=names,
            orientation="h",
            marker={"color": colours},
        ),
        go.Scatter(
            x=p.ravel().tolist(),
            y=names * count,
            mode="markers",
            marker={"color": calipers.COLOURS["vermilion"], "size": 5, "opacity": 0.7},
        ),
    ]


interactive = make_subplots(1, 2, column_widths=[0.4, 0.6], horizontal_spacing=0.2)
first = frame(17, 1)
interactive.add_trace(first[0], 1, 1)
interactive.add_trace(first[1], 1, 2)
interactive.add_trace(first[2], 1, 2)
interactive.frames = [
    go.Frame(data=frame(number, count), traces=[0, 1, 2])
    for number, count in itertools.product(labelled.values(), range(1, members + 1))
]
interactive.update_xaxes(visible=False, row=1, col=1)
interactive.update_yaxes(visible=False, scaleanchor="x", row=1, col=1)
interactive.update_xaxes(range=[0, 1.02], title="probability", row=1, col=2)
interactive.update_layout(height=340, showlegend=False)

static, (left, middle) = plt.subplots(1, 2, figsize=(4.8, 3), width_ratios=[2, 3])
left.imshow(x_test[17, :, :, 0])
left.axis("off")
middle.barh(names, ten[:, 17].mean(axis=0), color=calipers.COLOURS["blue"])
for net in ten[:, 17]:
    middle.plot(net, range(10), "o", ms=3, color=calipers.COLOURS["vermilion"])
middle.set(xlabel="probability")
middle.invert_yaxis()
interactive.update_yaxes(autorange="reversed", row=1, col=2)
calipers.show_interactive(
    interactive,
    static,
    knobs={
        "picture": list(labelled),
        "nets averaged": [str(n) for n in range(1, members + 1)],
    },
    alt="A photograph of a garment beside ten bars, the probabilities of the ten classes by the "
    "averaged nets, with the true class in green and every single net as a dot. The sliders "
    "choose the picture and how many nets are averaged.",
)

# %%
print(
    "picture 17, a coat: our",
    members,
    "nets say",
    [names[k] for k in ten[:, 17].argmax(-1)],
)
print(
    "picture 23, a boot: our",
    members,
    "nets say",
    [names[k] for k in ten[:, 23].argmax(-1)],
)
calipers.record(
    "ens-boot-wrong",
    sample([100 * (a[:, 23] != 9).mean() for a in answers]),
    "%",
    examples=members,  # its error is that of a share of so many nets
    title="Of ten nets, those that do not take picture 23 for a boot",
)

# %% [markdown]
# ### Averaging against voting

# %%
said = {
    "average": [average(p).argmax(-1) for p in p_test],
    "vote": [vote(p) for p in p_test],
    "logits": [np.log(np.maximum(p, 1e-12)).mean(0).argmax(-1) for p in p_test],
}
combined = {
    name: sample([100 * (answer == y_test).mean() for answer in answers_of])
    for name, answers_of in said.items()
}
calipers.record(
    "ens-average",
    combined["average"],
    "%",
    examples=tested,
    at_least=calipers.choose(smoke=0, quick=88.5, full=91.53),
    greater_than="ens-member",
    title="Test accuracy of the average of ten",
)
calipers.record(
    "ens-seconds", nets["seconds"], "s", title=f"Seconds to train {members} nets"
)
calipers.record(
    "ens-gain",
    combined["average"] - sample(marks.mean(axis=1)),
    "points",
    at_least=0.5,
    title="What averaging ten nets adds to the mean of the ten",
)
calipers.record(
    "ens-gain-best",
    combined["average"] - sample(marks.max(axis=1)),
    "points",
    at_least=0.2,
    title="What it adds to the best of the ten, chosen on the test pictures",
)
calipers.record(
    "ens-vote",
    combined["vote"],
    "%",
    examples=tested,
    compared_with="ens-average",
    title="Test accuracy of the vote of ten",
)
calipers.record(
    "ens-logits",
    combined["logits"],
    "%",
    examples=tested,
    compared_with="ens-average",
    title="Test accuracy of the average of ten nets' logits",
)
differ = [a != v for a, v in zip(said["average"], said["vote"])]
calipers.record(
    "ens-average-vote-differ",
    sample([100 * d.mean() for d in differ]),
    "%",
    at_most=3,
    title="Pictures on which average and vote give different answers",
)
promised = [binom.sf(members // 2, members, mark) for mark in mean_q]
calipers.record(
    "ens-promised",
    sample(100 * np.array(promised)),
    "%",
    greater_than="ens-vote",
    title="Majority of independent voters of that accuracy",
)

# %% [markdown]
# | | test accuracy | against the average (points) | verdict |
# |:--|--:|--:|:--|
# | a single net, mean of ten | {glue:text}`ens-member` | | |
# | average of ten probabilities | {glue:text}`ens-average` | | {glue:text}`ens-average.verdict` than a single net |
# | average of ten logits | {glue:text}`ens-logits` | {glue:text}`ens-logits.difference:.2f` ± {glue:text}`ens-logits.noise:.2f` | {glue:text}`ens-logits.verdict` |
# | majority vote of ten | {glue:text}`ens-vote` | {glue:text}`ens-vote.difference:.2f` ± {glue:text}`ens-vote.noise:.2f` | {glue:text}`ens-vote.verdict` |
# | ten *independent* voters, {eq}`eq-ens-vote` | {glue:text}`ens-promised` | | not to be had |
#
# Averaging ten nets adds {glue:text}`ens-gain`, and {glue:text}`ens-gain-best` to the best of the ten, even though that
# one is chosen with the test pictures in view. Average and vote answer only {glue:text}`ens-average-vote-differ` of the
# pictures differently. And equation {eq}`eq-ens-vote`, which takes the nets for independent, promises
# {glue:text}`ens-promised.mean:.2f` %: what we get falls far short of it, because the hard pictures are hard for all.
#
# ### What does the next net buy?

# %%
rng = np.random.default_rng(0)
sizes = list(range(1, members + 1))
by_size, brier_by_size = [], []
for p in p_test:
    subsets = [
        [rng.permutation(members)[:size] for _ in range(10 if size < members else 1)]
        for size in sizes
    ]
    by_size.append(
        [np.mean([accuracy(average(p[s]), y_test) for s in many]) for many in subsets]
    )
    brier_by_size.append(
        [
            np.mean([brier(average(p[s]), y_test).mean() for s in many])
            for many in subsets
        ]
    )
by_size, brier_by_size = np.array(by_size), np.array(brier_by_size)
gain = by_size - marks.mean(axis=1, keepdims=True)
for size in (2, 5):
    if size <= members:
        calipers.record(
            f"ens-share-{size}",
            sample(100 * gain[:, size - 1] / gain[:, -1]),
            "%",
            between=((30, 75) if size == 2 else (70, 100)),
            title=f"Of the gain of ten nets, what {size} bring",
        )


def forecast(p, labels, size):
    """The Brier score of `size` nets, by the law, from the few nets in p."""
    spread = ambiguity(p).mean() * len(p) / (len(p) - 1)
    return brier(average(p), labels).mean() - spread / len(p) + spread / size


forecasts = [forecast(p[:3], y_test, members) for p in p_test]
calipers.record(
    "ens-forecast",
    sample(np.array(forecasts) / brier_by_size[:, -1]),
    between=(0.98, 1.02),
    title="Brier score of all ten nets, forecast from three of them, over the measured one",
)
calipers.record(
    "ens-brier-saved",
    sample(100 * (1 - brier_by_size[:, -1] / brier_by_size[:, 0])),
    "%",
    title="How much of a net's Brier score averaging ten takes off",
)

# %%
figure, axis = plt.subplots()
low, high = by_size.min(axis=0), by_size.max(axis=0)
axis.fill_between(sizes, low, high, alpha=0.3, lw=0)
axis.plot(sizes, by_size.mean(axis=0), "o-", label="average of M nets, measured")
reach = np.linspace(1, members, 50)
law = (1 - 1 / reach) / (1 - 1 / members)
start, end = by_size[:, 0].mean(), by_size[:, -1].mean()
axis.plot(
    reach, start + law * (end - start), ":", color="gray", label="a gain like 1 − 1/M"
)
axis.axhline(end + (end - start) / (members - 1), color=calipers.COLOURS["green"], ls="--",
             label="where 1 − 1/M leads")  # fmt: skip
axis.set(xlabel="nets, and times the cost of one", ylabel="test accuracy (%)")
axis.legend(loc="lower right")
calipers.show(
    alt="Test accuracy of an average against the number of nets. It climbs steeply from "
    f"{start:.1f} % for one net, more and more slowly, and reaches {end:.1f} % for {members}. A dotted "
    "curve with a gain like one minus one over M runs close to it."
)

# %% [markdown]
# The second net brings {glue:text}`ens-share-2.mean:.0f` % of all that ten bring, five nets bring
# {glue:text}`ens-share-5.mean:.0f` %. For the Brier score {eq}`eq-ens-law` says so exactly, 56 and 89 %; the accuracy has
# no such law, and follows it nearly. The law even forecasts: from the predictions of three nets it gives the Brier score
# of ten, of which it has never seen seven, to within a factor of {glue:text}`ens-forecast.mean:.3f`. So train three, and
# you know what ten would bring in Brier score.
#
# **The price** is ten times the training (here ten nets take {glue:text}`ens-seconds.mean:.0f` seconds) and ten times the
# multiplications for every answer. Members have nothing to say
# to each other while they train, so ten machines take as long as one.
#
# (sec-ens-confidence)=
# ### A measure of confidence
#
# **When an ensemble says {given}`90 %`, is it right nine times in ten?** The {term}`expected calibration error` of the chapter on
# [regularisation](regularisation.md) says by how much it is off. And a {term}`rejection curve` asks something more
# useful: let the net refuse the pictures of which it is least sure. How good is it on the rest?

# %%
kept_share = tested * 9 // 10
measures = {"gap": [], "cost": [], "keep": [], "strange": []}
for p, strange in zip(p_test, nets["digits"].values):
    measures["gap"].append(
        [
            np.mean([calibration_error(q, y_test) for q in p]),
            calibration_error(average(p), y_test),
        ]
    )
    measures["cost"].append(
        [cross_entropy(p, y_test).mean(), cross_entropy(average(p), y_test)]
    )
    alone = np.mean([rejection_curve(q, y_test)[kept_share - 1] for q in p])
    measures["keep"].append(
        [alone, rejection_curve(average(p), y_test)[kept_share - 1]]
    )
    sure = (
        100 * (strange.max(-1) > 0.9).mean(),
        100 * (average(strange).max(-1) > 0.9).mean(),
    )
    measures["strange"].append(sure)
measures = {name: np.array(values) for name, values in measures.items()}
calipers.record(
    "ens-gap-average",
    sample(measures["gap"][:, 1]),
    "points",
    title="Calibration error of the average of ten",
)
calipers.record(
    "ens-gap-member",
    sample(measures["gap"][:, 0]),
    "points",
    compared_with="ens-gap-average",
    title="Calibration error of a single net",
)
calipers.record(
    "ens-cost-average",
    sample(measures["cost"][:, 1]),
    "nats",
    title="Test cross-entropy of the average of ten",
)
calipers.record(
    "ens-cost-member",
    sample(measures["cost"][:, 0]),
    "nats",
    greater_than="ens-cost-average",
    title="Test cross-entropy of a single net",
)
calipers.record(
    "ens-keep-member",
    sample(measures["keep"][:, 0]),
    "%",
    examples=kept_share,
    title="Accuracy of a single net on the nine tenths of which it is surest",
)
calipers.record(
    "ens-keep-average",
    sample(measures["keep"][:, 1]),
    "%",
    examples=kept_share,
    greater_than="ens-keep-member",
    title="Accuracy of the average on the nine tenths of which it is surest",
)
calipers.record(
    "ens-strange-average",
    sample(measures["strange"][:, 1]),
    "%",
    title="Digits that the average takes for clothes with over 90 % confidence",
)
calipers.record(
    "ens-strange-member",
    sample(measures["strange"][:, 0]),
    "%",
    greater_than="ens-strange-average",
    title="Digits that a single net takes for clothes with over 90 % confidence",
)

# %%
figure, axis = plt.subplots()
refused = 100 * (1 - np.arange(1, tested + 1) / tested)
shown = slice(tested // 3, None, max(1, tested // 300))
for label, curves in {
    "a single net": [
        np.mean([rejection_curve(q, y_test) for q in p], axis=0) for p in p_test
    ],
    "average of the ten": [rejection_curve(average(p), y_test) for p in p_test],
}.items():
    curves = np.array(curves)[:, shown]
    axis.fill_between(refused[shown], curves.min(0), curves.max(0), alpha=0.3, lw=0)
    axis.plot(refused[shown], curves.mean(0), label=label)
axis.set(xlabel="pictures refused (%)", ylabel="accuracy on the others (%)")
axis.legend(loc="lower right")
calipers.show(
    alt="Accuracy on the pictures that are not refused against the share refused, for a single "
    "net and for the average of ten, with bands over the seeds. Both climb steadily towards 100 %; "
    "the average's curve lies above that of the single net."
)


# %%
def reliability(p, labels, bins=10):
    """Mean confidence and share of right answers in bins of confidence, in per cent."""
    sure, right = p.max(axis=-1).ravel(), (p.argmax(axis=-1) == labels).ravel()
    place = np.minimum((sure * bins).astype(int), bins - 1)
    filled = np.bincount(place, minlength=bins) >= min(30, len(sure) // bins)
    count = np.maximum(np.bincount(place, minlength=bins), 1)
    means = (np.bincount(place, values, minlength=bins) for values in (sure, right))
    return [100 * (mean / count)[filled] for mean in means]


figure, axis = plt.subplots()
axis.plot([30, 100], [30, 100], ":", color="gray", label="right as often as it says")
for label, marker, sets in (
    ("a single net", "o", p_test),
    ("average of the ten", "s", [average(p) for p in p_test]),
):
    together = np.concatenate(sets, axis=-2), np.tile(y_test, len(seeds))
    axis.plot(*reliability(*together), marker + "-", label=label)
axis.set(xlabel="confidence (%)", ylabel="right answers (%)")
axis.legend(loc="upper left")
calipers.show(
    alt="Reliability diagram: the share of right answers against the confidence with which they "
    "are given, for single nets and for averages of ten, beside the diagonal on which both are "
    "equal. Below the diagonal a net is surer than it should be, above it less sure."
)


# %% [markdown]
# | | a single net | average of ten | verdict |
# |:--|--:|--:|:--|
# | cross-entropy | {glue:text}`ens-cost-member` | {glue:text}`ens-cost-average` | single against average: {glue:text}`ens-cost-member.verdict` |
# | calibration error (points) | {glue:text}`ens-gap-member.mean:.2f` | {glue:text}`ens-gap-average.mean:.2f` | single against average: {glue:text}`ens-gap-member.verdict` |
# | accuracy, a tenth refused | {glue:text}`ens-keep-member` | {glue:text}`ens-keep-average` | average against single: {glue:text}`ens-keep-average.verdict` |
# | digits taken for clothes with confidence over {given}`90 %` | {glue:text}`ens-strange-member` | {glue:text}`ens-strange-average` | single against average: {glue:text}`ens-strange-member.verdict` |
#
# The average's cross-entropy is lower, as {eq}`eq-ens-jensen` says it must be. It is a better measure of confidence where
# it counts: refuse the tenth of which it is least sure, and it is right on more of the rest than a single net. And
# digits, which neither has ever seen, it takes for clothes with less conviction, but still far too often: ten nets with
# the same training set share its blind spots. {cite:t}`lakshminarayanan2017` proposed ensembles for just this use.
#
# (sec-ens-price)=
# ### The same price, spent differently
#
# **Five nets cost five times as much as one. Is there a better way to spend it?** Or a cheaper way to get five?
# {cite:t}`huang2017` train *one* net, let its learning rate fall to zero and jump up again, several times over, and keep
# a {term}`snapshot <snapshot ensemble>` at the end of every cycle. We try this with small dense nets on
# {glue:text}`ens-few.mean:,.0f` pictures of half the side, because a stack of NumPy nets trains in seconds. Prices are counted in
# steps.

# %%
def ways_to_spend(seed):
    numbers = [1000 + 10 * seed + member for member in range(5)]
    result = {}

    def score(name, stacks):
        p = np.concatenate([softmax(stack_logits(s, x_few_test)) for s in stacks])
        result[f"{name} alone"] = accuracy(p, y_test).mean()
        result[f"{name} average"] = accuracy(average(p), y_test)
        c = votes(p)
        same = (c * (c - 1)).sum(-1) / max(1, len(p) * (len(p) - 1))
        result[f"{name} differ"] = 100 * (1 - same.mean())

    for name, length in (("five nets", cycle), ("five short nets", cycle // 5)):
        stack = random_stack(numbers, [196, 64, 10])
        train_stack(stack, x_few, y_few, deal(numbers, few, length, 50))
        score(name, [stack])
        if length == cycle:
            result["one net average"] = result["five nets alone"]
            result["stack"] = [stack]
    pair = random_stack(numbers[:1] * 2, [196, 64, 10])
    turns = deal(numbers[:1] * 2, few, 5 * cycle, 50)
    copies = train_stack(pair, x_few, y_few, turns, cycles=[1, 5])
    score("one long net", [[array[:1] for array in pair]])
    score("five snapshots", [[array[1:] for array in copy] for copy in copies])
    return result


calipers.record("ens-few", few, "pictures", title="Training pictures of the small nets")
spent = calipers.over_seeds(ways_to_spend, seeds, "ways to spend")
ways = ["one net", "five short nets", "one long net", "five snapshots", "five nets"]
for name in ways:
    rivals = {"five short nets": "one-net", "five snapshots": "one-long-net"}
    rival = rivals.get(name, "five-snapshots" if name == "five nets" else None)
    calipers.record(
        f"ens-spend-{name.replace(' ', '-')}",
        spent[f"{name} average"],
        "%",
        examples=tested,
        compared_with=rival and f"ens-spend-{rival}",
        title=f"Test accuracy: {name}",
    )
for name in ("five snapshots", "five nets"):
    calipers.record(
        f"ens-differ-{name.replace(' ', '-')}",
        spent[f"{name} differ"],
        "%",
        compared_with="ens-differ-five-snapshots" if name == "five nets" else None,
        title=f"Pictures on which two of the {name} differ",
    )


# %% [markdown]
# | what | steps, in trainings | test accuracy | against | difference (points) | verdict |
# |:--|--:|--:|:--|--:|:--|
# | one net, mean of five | 1 | {glue:text}`ens-spend-one-net` | | | |
# | five nets of a fifth of the steps each | 1 | {glue:text}`ens-spend-five-short-nets` | one net | {glue:text}`ens-spend-five-short-nets.difference:.2f` ± {glue:text}`ens-spend-five-short-nets.noise:.2f` | {glue:text}`ens-spend-five-short-nets.verdict` |
# | one net, five times as long | 5 | {glue:text}`ens-spend-one-long-net` | | | |
# | five snapshots of one training | 5 | {glue:text}`ens-spend-five-snapshots` | one long net | {glue:text}`ens-spend-five-snapshots.difference:.2f` ± {glue:text}`ens-spend-five-snapshots.noise:.2f` | {glue:text}`ens-spend-five-snapshots.verdict` |
# | five nets | 5 | {glue:text}`ens-spend-five-nets` | five snapshots | {glue:text}`ens-spend-five-nets.difference:.2f` ± {glue:text}`ens-spend-five-nets.noise:.2f` | {glue:text}`ens-spend-five-nets.verdict` |
#
# Two of five independent nets differ on {glue:text}`ens-differ-five-nets`, two of five snapshots on
# {glue:text}`ens-differ-five-snapshots`: a net that only walks on from where it stood stays its own relative. By
# {eq}`eq-ens-ambiguity` an average can gain no more than its members disagree by. But what an average is worth depends on
# its members, too. A net that has not finished learning may gain more from more steps than from company. At the same
# price the accuracy of five nets, against that of the snapshots of one long training, is:
# {glue:text}`ens-spend-five-nets.verdict`. That of five nets of a fifth of the steps each, against one net, is:
# {glue:text}`ens-spend-five-short-nets.verdict`. In large nets, trained to the end, {cite:t}`fort2019` found that nets of different first weights
# differ far more than those of one training.
#
# ### Digits: five nets vote

# %%
def between(x, rows, columns):
    """Values of pictures (n, 28, 28) between the pixels: bilinear, and 0 outside."""
    flat = np.pad(x, ((0, 0), (1, 2), (1, 2))).ravel()  # (n, 31, 31), in a row
    rows, columns = np.clip(rows + 1, 0, 29), np.clip(columns + 1, 0, 29)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top).astype(x.dtype), (columns - left).astype(x.dtype)
    at = (np.arange(len(x))[:, None, None] * 31 + top) * 31 + left
    above = flat[at] * (1 - right) + flat[at + 1] * right
    below = flat[at + 31] * (1 - right) + flat[at + 32] * right
    return above * (1 - down) + below * down


def moved(x, rng):
    """Every digit turned, skewed, stretched, shifted and rumpled a little."""
    out = np.empty_like(x)
    i, j = np.mgrid[:28, :28] - 13.5
    sheet = gaussian_filter(rng.normal(size=(2, 600, 600)), (0, 4, 4), mode="wrap")
    sheet *= 0.7 / sheet.std()
    patches = sliding_window_view(sheet, (28, 28), axis=(1, 2))
    for start in range(0, len(x), 250):  # small enough for the processor's cache
        n = len(x[start : start + 250])
        most = np.array([np.pi / 18, 0.1, 0.1, 0.1, 1, 1])[:, None, None, None]
        turn, skew, tall, wide, along, aside = rng.uniform(-most, most, (6, n, 1, 1))
        up, across = (1 + tall) * i, (1 + wide) * j + skew * (1 + tall) * i
        rows = np.cos(turn) * up - np.sin(turn) * across + 13.5 + along
        columns = np.sin(turn) * up + np.cos(turn) * across + 13.5 + aside
        rumple = patches[:, *rng.integers(patches.shape[1], size=(2, n))]
        picture = x[start : start + n, :, :, 0]
        out[start : start + n, :, :, 0] = between(
            picture, rows + rumple[0], columns + rumple[1]
        )
    return out


def digit_net():
    """The full profile's net for digits: two convolutions, all layers normalised."""
    net = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (24, 64):
        net.add(layers.Conv2D(filters, 5, use_bias=False))
        net.add(layers.MaxPooling2D(2))
        net.add(layers.BatchNormalization(momentum=0.9))
        net.add(layers.ReLU())
    net.add(layers.Flatten())
    net.add(layers.Dense(128, use_bias=False))
    net.add(layers.BatchNormalization(momentum=0.9))
    net.add(layers.ReLU())
    net.add(layers.Dense(10))
    return net


change = calipers.choose(smoke=None, quick=None, full=moved)


def read_digits(seed):
    numbers = [2000 + 10 * seed + member for member in range(digit_members)]
    views = [x_digits_test]
    more = {"build": digit_net, "change": change}
    said = train_nets(numbers, x_digits, y_digits, digit_epochs, views, **more)
    return {"p": said[0]}


calipers.record("ens-digit-epochs", digit_epochs, title="Epochs of a net for digits")
digits = calipers.over_seeds(read_digits, seeds, f"{digit_members} nets for digits")
p_digits = digits["p"].values
calipers.record(
    "ens-digit-member",
    sample([accuracy(p, y_digits_test).mean() for p in p_digits]),
    "%",
    examples=tested,
    title="Test digits that one net reads, mean of the five",
)
calipers.record(
    "ens-digit-average",
    sample([accuracy(average(p), y_digits_test) for p in p_digits]),
    "%",
    examples=tested,
    greater_than="ens-digit-member",
    title="Test digits that the average of five reads",
)
calipers.record(
    "ens-digit-vote",
    sample([100 * (vote(p) == y_digits_test).mean() for p in p_digits]),
    "%",
    examples=tested,
    at_least=calipers.choose(smoke=None, quick=None, full=99.67),
    greater_than="ens-digit-member",
    title="Test digits that the vote of five reads",
)
calipers.record(
    "ens-digit-wrong",
    sample([(vote(p) != y_digits_test).sum() for p in p_digits]),
    "digits",
    at_most=calipers.choose(smoke=None, quick=None, full=33),
    title="Test digits that the vote of five gets wrong",
)

# %%
elected = vote(p_digits[0])
wrong = np.flatnonzero(elected != y_digits_test)
figure, axes = plt.subplots(5, 8, figsize=(4.8, 4))
for axis in axes.flat:
    axis.axis("off")
for axis, number in zip(axes.flat, wrong):
    axis.imshow(x_digits_test[number, :, :, 0])
    axis.set_title(f"{y_digits_test[number]} → {elected[number]}", fontsize=10, pad=2)
calipers.show(
    alt=f"The first {min(40, len(wrong))} of the {len(wrong)} test digits that the first seed's vote gets "
    "wrong, each with its label, an arrow and the vote. Many are badly written; some a "
    "reader would get right."
)

# %% [markdown]
# After {glue:text}`ens-digit-epochs` epochs a net reads {glue:text}`ens-digit-member` of the test digits; five of them,
# voting, read {glue:text}`ens-digit-vote`, averaged {glue:text}`ens-digit-average`. This is the lecture's experiment in
# small, with dense nets.
#
# Its own, with convolutional nets, belongs to the full profile. There each net has batch normalisation after every layer,
# and sees its digits a little turned, skewed, stretched, shifted and rumpled, anew in every epoch (the page on
# [data augmentation](data_augmentation.md) tells how), except in the last, when the {term}`running statistics` have to
# become those of digits as they are. The reference run, five nets for each of five seeds: one net reads
# {reference}`ens-digit-member`, five average to {reference}`ens-digit-average` and vote {reference}`ens-digit-vote`, which
# leaves {reference}`ens-digit-wrong` wrong. The lecture has 33.
#
# (sec-ens-reproducible)=
# ## What "reproducible" means
#
# **Fix the seed, and it is science?** A seed fixes what is *drawn*: here the first weights and the order of the pictures.
# It does not fix how the computer adds. Sums of floating-point numbers depend on their order, and the order depends on
# the number of cores, on the library, on the chip.

# %%
terms = np.random.default_rng(0).normal(size=1000).astype("float32")
forwards, backwards = np.float32(0), np.float32(0)
for term in terms:
    forwards += term
for term in terms[::-1]:
    backwards += term
print(f"forwards {forwards:.6f}, backwards {backwards:.6f}")
assert forwards != backwards

# %% [markdown]
# Does so little matter? Train groups of four small nets that share everything except one thing: the first weights; the
# order of the pictures; both; nothing; *one bit* of one weight; or only the order in which each batch's gradients are
# added up, which in exact arithmetic changes nothing at all. The last is what another machine does to you.

# %%
groups = ["both", "weights", "order", "one bit", "rounding", "nothing"]


def sources(seed):
    same, other = [3000 + 10 * seed] * 4, [3001 + 10 * seed + k for k in range(4)]
    first = {"both": other, "weights": other}
    turn = {"both": other, "order": other}
    weights = [number for group in groups for number in first.get(group, same)]
    orders = [number for group in groups for number in turn.get(group, same)]
    stack, turns = random_stack(weights, [196, 64, 10]), deal(orders, few, steps, 50)
    for net in range(4):
        bit = 4 * groups.index("one bit") + net
        stack[0][bit, 100, net] = np.nextafter(stack[0][bit, 100, net], np.float32(9))
        shuffled = 4 * groups.index("rounding") + net
        rng = np.random.default_rng([seed, net])
        turns[shuffled] = rng.permuted(turns[shuffled], axis=1)
    train_stack(stack, x_few, y_few, turns)
    p = softmax(stack_logits(stack, x_few_test)).reshape(len(groups), 4, tested, 10)
    result = {}
    for group, four in zip(groups, p):
        c = votes(four)
        result[f"{group} differ"] = 100 * (1 - (c * (c - 1)).sum(-1).mean() / 12)
        result[f"{group} spread"] = accuracy(four, y_test).std(ddof=1)
        result[f"{group} apart"] = int((four != four[0]).sum())
    return result


sourced = calipers.over_seeds(sources, seeds, "sources of luck")
for group in groups[:-1]:
    calipers.record(
        f"ens-source-{group.replace(' ', '-')}",
        sourced[f"{group} differ"],
        "%",
        compared_with=None if group == "both" else "ens-source-both",
        title=f"Test pictures on which two nets differ; different: {group}",
    )
calipers.record(
    "ens-source-nothing",
    int(sourced["nothing apart"].values.sum()),
    equals=0,
    title="Probabilities that differ between nets of the same seeds",
)

# %%
figure, axis = plt.subplots()
for row, group in enumerate(groups):
    values = sourced[f"{group} differ"].values
    axis.barh(row, values.mean(), color=calipers.COLOURS["sky"], alpha=0.7)
    axis.plot(values, [row] * len(values), "o", ms=4, color=calipers.COLOURS["blue"])
axis.set_yticks(range(len(groups)), groups)
axis.invert_yaxis()
axis.set(
    xlabel="test pictures on which two nets differ (%)", ylabel="what is different"
)
alt = ", ".join(f"{g}: {sourced[f'{g} differ'].mean:.1f} %" for g in groups)
calipers.show(
    alt="Bars for six kinds of difference between trainings, with a dot for each seed: how many "
    f"test pictures two nets answer differently. {alt}."
)

# %% [markdown]
# Nets with other first weights *and* another order differ on {glue:text}`ens-source-both` of the pictures; with other
# weights alone on {glue:text}`ens-source-weights`, with another order alone on {glue:text}`ens-source-order`. Fixing one
# source of luck does not remove the spread, though here the order alone does less than the first weights. One bit of one
# weight is worth {glue:text}`ens-source-one-bit`, another order of summation {glue:text}`ens-source-rounding`. The same
# seeds on the same machine give the same bits, all of them. Our trainings are short and the nets small; in larger ones
# {cite:t}`summers2021` found that all sources make nets about equally different, and that one bit is enough.
#
# Does Keras repeat itself on this machine? Train the same net from the same seed twice and compare.

# %%
twice, keras_net = [], compiled(small_net(), len(x_digits[:10_000]), 1)
for _ in range(2):
    fresh = small_net().get_weights()
    train(keras_net, fresh, 7, x_digits[:10_000], y_digits[:10_000], 1)
    twice.append(probabilities(keras_net, strangers))
print("largest difference of a probability:", abs(twice[0] - twice[1]).max())

# %% [markdown]
# So ask three things when somebody says "reproducible". The same *bits*: same seed, same machine, same versions, and
# operations that add in a fixed order, for which TensorFlow has
# [a switch](https://www.tensorflow.org/api_docs/python/tf/config/experimental/enable_op_determinism), at some cost in speed. The same *number within its noise*: other
# seeds, other machines; this book's promise, and each of its records carries the band. The same *conclusion*: somebody
# else's code. Only the last two are science. {cite:t}`bouthillier2021` recommend to vary everything that can vary at
# once, the split of the data included.
#
# ## What the lectures said
#
# The [ledger](claims.md) keeps the account.
#
# - **Ten identical nets "all near 89 %", the first 89.45 %** {cite}`cab420`. Ours, dense ones in the quick profile, read
#   {glue:text}`ens-member` on average, and ten of them differ by {glue:text}`ens-spread.mean:.2f` points.
# - **"More variation in validation performance than in testing performance"** {cite}`cab420`. Not because validation is
#   different. On 10,000 held-back pictures, the same for all, the nets spread by {glue:text}`ens-spread-val`; against the
#   test set {glue:text}`ens-spread-val.verdict`. (It may exceed the test set's by {given}`0.3 points` at most, half of what
#   pictures of one's own add; we set this bound when we had seen both.) It is so when each net is validated on a few
#   pictures of its own: {glue:text}`ens-spread-own`. By {eq}`eq-ens-total` such a spread contains the luck of the
#   pictures, too.
# - **Averaging ten gives 91.53 %, "2 % for ten times the compute"** {cite}`cab420`. A gain there is:
#   {glue:text}`ens-gain`. Dense nets do not reach 91.53 %, and gain less; the full profile trains the lecture's own nets
#   and asks for that figure. In the reference run one of them reads {reference}`ens-member`, ten {reference}`ens-average`. Five nets bring {glue:text}`ens-share-5.mean:.0f` % of the gain for half of the price.
# - **"A way to measure confidence"** {cite}`cab420`. Yes: see [above](sec-ens-confidence). But not against what all nets
#   share: {glue:text}`ens-unanimous-wrong.mean:.0f` % of the vote's errors are unanimous, as the lecture's boot was.
# - **Five nets vote 99.67 % of MNIST, 33 digits wrong** {cite}`schonhuth2019`. The quick profile's five dense nets vote
#   {glue:text}`ens-digit-vote`, {glue:text}`ens-digit-member` singly; the reference run's convolutional ones
#   {reference}`ens-digit-vote`.
#
# (sec-ens-traps)=
# ## Where it goes wrong
#
# **Average the answers, never the weights.** Two nets may do the same thing with their hidden units in another order. The
# mean of their weights does neither.

# %%
merged, apart = [], []
for (stack,) in spent["stack"]:
    mean = [array.mean(axis=0, keepdims=True) for array in stack]
    merged.append(accuracy(softmax(stack_logits(mean, x_few_test)), y_test)[0])
    apart.append(accuracy(average(softmax(stack_logits(stack, x_few_test))), y_test))
calipers.record(
    "ens-weights-merged",
    sample(merged),
    "%",
    examples=tested,
    at_most=70,
    title="Test accuracy of the mean of five nets' weights",
)
print(
    f"mean of the answers: {np.mean(apart):.1f} %, mean of the weights: {np.mean(merged):.1f} %"
)


# %% [markdown]
# The average of five nets' *answers* reads {glue:text}`ens-spend-five-nets`, the net with the average of their *weights*
# {glue:text}`ens-weights-merged`.
#
# **Calibrate after averaging, they say. Does it matter?** A {term}`temperature` fitted on held-back pictures makes a
# single net's confidence honest. Do that to each of ten and average them: where the nets disagree, the average is less
# sure than any of them was, and may be less sure than it deserves to be {cite}`rahaman2021`. So one should fit the
# temperature last.

# %%
def tempered(p, temperature):
    return softmax(np.log(np.maximum(p, 1e-12)) / temperature)


def best_temperature(p, labels):
    """The temperature with the smallest cross-entropy, by golden section."""
    low, high, golden = 0.3, 4.0, (math.sqrt(5) - 1) / 2
    for _ in range(20):
        left, right_one = high - golden * (high - low), low + golden * (high - low)
        costs = [cross_entropy(tempered(p, t), labels) for t in (left, right_one)]
        low, high = (low, right_one) if costs[0] < costs[1] else (left, high)
    return (low + high) / 2


before, after, heats = [], [], []
for p, q_val in zip(p_test, p_val):
    warm = np.array([tempered(a, best_temperature(b, y_val)) for a, b in zip(p, q_val)])
    before.append(calibration_error(average(warm), y_test))
    heat = best_temperature(average(q_val), y_val)
    after.append(calibration_error(tempered(average(p), heat), y_test))
    heats.append(heat)
calipers.record(
    "ens-heat",
    sample(heats),
    title="Temperature of the average of ten",
)
calipers.record(
    "ens-gap-after",
    sample(after),
    "points",
    title="Calibration error, averaged and then tempered",
)
calipers.record(
    "ens-gap-before",
    sample(before),
    "points",
    compared_with="ens-gap-after",
    title="Calibration error, each net tempered and then averaged",
)

# %% [markdown]
# Tempered and then averaged, the ensemble is off by {glue:text}`ens-gap-before`; averaged and then tempered, by
# {glue:text}`ens-gap-after`. The first against the second: {glue:text}`ens-gap-before.difference:+.3f` ±
# {glue:text}`ens-gap-before.noise:.3f` points, {glue:text}`ens-gap-before.verdict`. How much it matters depends on how
# far the members disagree. Compare that with {glue:text}`ens-gap-average` for the average as it comes.
#
# **The wrong error bar.** Ten nets against five, on the same 10,000 pictures. Whoever takes the binomial error for each
# and adds the squares finds a standard error far larger than the difference, and gives up. But both sit the same test.
# What counts are the pictures on which they differ: $b$ that only the first reads, $c$ that only the second reads. The
# difference is $(b - c)/n$, with a standard error of about $\sqrt{b + c} / n$. (This is McNemar's test.)

# %%
unpaired, paired, lead = [], [], []
for p in p_test:
    more = average(p).argmax(-1) == y_test
    fewer = average(p[: members // 2]).argmax(-1) == y_test
    rates = more.mean(), fewer.mean()
    unpaired.append(100 * math.sqrt(sum(r * (1 - r) for r in rates) / tested))
    paired.append(100 * math.sqrt(max(1, (more != fewer).sum())) / tested)
    lead.append(100 * (rates[0] - rates[1]))
calipers.record(
    "ens-error-unpaired",
    sample(unpaired),
    "points",
    title="Standard error of the difference as if the test sets were two",
)
calipers.record(
    "ens-error-ratio",
    sample(np.array(unpaired) / np.array(paired)),
    at_least=2,
    title="How many times too large that is",
)
calipers.record(
    "ens-ten-five",
    sample(lead),
    "points",
    title="Lead of ten nets over five",
)

# %% [markdown]
# Ten nets lead by {glue:text}`ens-ten-five`. As if unpaired the error of that is {glue:text}`ens-error-unpaired.mean:.2f`
# points, {glue:text}`ens-error-ratio.mean:.1f` times too large.
#
# ## Exercises
#
# ```{exercise} A vote by hand
# :label: ex-ens-hand
#
# Five nets read a digit. Their answers are 4, 9, 9, 4, 7, and they give the probabilities for (4, 7, 9): (0.9, 0, 0.1),
# (0.4, 0, 0.6), (0.3, 0.1, 0.6), (0.5, 0.1, 0.4), (0.1, 0.5, 0.4). Who wins the vote, who the average?
# ```
#
# ````{solution-start} ex-ens-hand
# :class: dropdown
# ````
#
# Two votes for 4, two for 9: a tie. The average gives 4 the probability 0.44 and 9 only 0.42, so 4 wins both, the vote by
# our rule for ties.

# %%
five = np.array(
    [[0.9, 0, 0.1], [0.4, 0, 0.6], [0.3, 0.1, 0.6], [0.5, 0.1, 0.4], [0.1, 0.5, 0.4]]
)
assert np.allclose(average(five[:, None])[0], [0.44, 0.14, 0.42])
assert votes(five[:, None])[0].tolist() == [2, 1, 2]
assert vote(five[:, None])[0] == 0


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} The best of ten
# :label: ex-ens-maximum
#
# Ten identical nets have accuracies that are independent and normal. How far above the mean is the best of them, in
# standard deviations, on average? Of how many would it be two standard deviations? Hint: the largest of $n$ lies below
# $z$ with the probability $\Phi(z)^n$.
# ```
#
# ````{solution-start} ex-ens-maximum
# :class: dropdown
# ````
#
# The density of the largest is $n\, \varphi(z)\, \Phi(z)^{n-1}$, so its mean is $\int z\, n\, \varphi(z)\, \Phi(z)^{n-1}
# dz$: 1.54 for ten nets. Two standard deviations take 28 nets. Whoever reports the best of several reports this as well.

# %%
def expected_maximum(n):
    z = np.linspace(-8, 8, 16_001)
    return (z * n * norm.pdf(z) * norm.cdf(z) ** (n - 1)).sum() * (z[1] - z[0])


assert abs(expected_maximum(10) - 1.54) < 0.005
assert next(n for n in range(2, 100) if expected_maximum(n) >= 2) == 28
draws = np.random.default_rng(0).normal(size=(20_000, 10)).max(axis=1)
assert abs(draws.mean() - expected_maximum(10)) < 4 * draws.std() / math.sqrt(20_000)

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Correlated members
# :label: ex-ens-correlated
#
# $M$ numbers have the same variance $\sigma^2$, and any two have the correlation $\rho$. Show that their mean has the
# variance $\sigma^2 \bigl( \rho + \frac{1 - \rho}{M} \bigr)$. What does that say about more and more nets? Check by
# drawing.
# ```
#
# ````{solution-start} ex-ens-correlated
# :class: dropdown
# ````
#
# The variance of a sum is the sum of all covariances: $M$ times $\sigma^2$ and $M(M-1)$ times $\rho\sigma^2$. Divide by
# $M^2$. What the members share, $\rho\sigma^2$, no number of them averages away.

# %%
rng, rho, many = np.random.default_rng(1), 0.3, 8
shared, single = rng.normal(size=(200_000, 1)), rng.normal(size=(200_000, many))
drawn = math.sqrt(rho) * shared + math.sqrt(1 - rho) * single
expected = rho + (1 - rho) / many
assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] - rho) < 0.01
assert abs(drawn.mean(axis=1).var() - expected) < 0.01


# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Training the average
# :label: ex-ens-joint
#
# Instead of training every net on its own loss, train all on the loss of their average, $-\log \bar p_y$. Derive
# $\partial L / \partial z_{m,k}$ for the logits of net $m$, check it by finite differences, and say what happens to a net
# that is far less sure of the truth than the others.
# ```
#
# ````{solution-start} ex-ens-joint
# :class: dropdown
# ````
#
# $\partial p_{m,y} / \partial z_{m,k} = p_{m,y} ([k = y] - p_{m,k})$, so
#
# $$ \frac{\partial L}{\partial z_{m,k}} = - \frac{1}{M \bar p_y}\, p_{m,y} ([k = y] - p_{m,k}) = r_m \bigl( p_{m,k} - [k = y] \bigr), \qquad r_m = \frac{p_{m,y}}{\sum_j p_{j,y}} . $$
#
# This is the usual slope times the net's share $r_m$ of the credit. A net that is far less sure than the others has a
# small share and hardly learns from this picture. It is left to the others: nets trained jointly specialise, and each
# alone is worse.

# %%
def joint_slopes(z, label):
    p = softmax(z)
    credit = p[:, label] / p[:, label].sum()
    return credit[:, None] * (p - np.eye(z.shape[-1])[label])


z, label = np.random.default_rng(2).normal(size=(4, 10)), 3
mine = joint_slopes(z, label)
for place in np.ndindex(z.shape):
    nudge = np.zeros_like(z)
    nudge[place] = 1e-6
    up, down = (-np.log(softmax(z + s * nudge)[:, label].mean()) for s in (1, -1))
    assert abs((up - down) / 2e-6 - mine[place]) < 1e-8

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} How many seeds?
# :label: ex-ens-seeds
#
# Two recipes differ by 0.1 points of accuracy. Their nets spread by 0.2 points each from seed to seed, independently. How
# many seeds of each does it take to see the difference at two standard errors? And if the seeds are paired and the
# *difference* spreads by 0.1?
# ```
#
# ````{solution-start} ex-ens-seeds
# :class: dropdown
# ````
#
# The difference of two means has the standard error $0.2 \sqrt{2/n}$. Two of them equal 0.1 at $n = 2 \cdot (2 \cdot 0.2
# / 0.1)^2 = 32$. Paired: $2 \cdot 0.1 / \sqrt n = 0.1$ at $n = 4$ (and a few more, because with four seeds Student's
# factor is 3.2 and not 2).

# %%
assert math.ceil(2 * (2 * 0.2 / 0.1) ** 2 - 1e-9) == 32
assert math.ceil((2 * 0.1 / 0.1) ** 2 - 1e-9) == 4

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Can one weigh the votes?
# :label: ex-ens-weights
#
# Give every net of the first ensemble a weight of its own, $\bar p = \sum_m w_m p_m$ with $w =
# \operatorname{softmax}(u)$, and find $u$ by gradient descent on the cross-entropy of the held-back pictures. Does it
# beat equal weights on the test pictures?
# ```
#
# ````{solution-start} ex-ens-weights
# :class: dropdown
# ````
#
# With $g_m$ the mean over pictures of $-p_{m,y} / \bar p_y$, the slope for $u_m$ is $w_m (g_m - \sum_j w_j g_j)$. The
# nets are of one make, so the best weights are nearly equal, and the gain is about nothing. (One ensemble: no claim.)

# %%
true_p = p_val[0][:, np.arange(len(y_val)), y_val]  # (nets, pictures)
u = np.zeros(members)
for _ in range(300):
    w = np.exp(u) / np.exp(u).sum()
    g = -(true_p / np.maximum(w @ true_p, 1e-12)).mean(axis=1)
    u -= 5 * w * (g - w @ g)
weighed = accuracy(np.tensordot(w, p_test[0], 1), y_test)
print("weights:", np.round(w, 2))
print(
    f"weighed {weighed:.2f} %, equal weights {accuracy(average(p_test[0]), y_test):.2f} %"
)
assert (
    -np.log(np.maximum(w @ true_p, 1e-12)).mean()
    <= cross_entropy(average(p_val[0]), y_val) + 1e-9
)

# %% [markdown]
# ````{solution-end}
# ````
#
# ```{exercise} Project: ten nets in one
# :label: ex-ens-distil
#
# Ten nets cost ten times as much to use. {cite:t}`hinton2015` train a single *student* on the averaged probabilities of
# its teachers. Do it with the small dense nets: the five of each seed teach one net of the same size. How much of
# their gain does it keep?
# ```
#
# ````{solution-start} ex-ens-distil
# :class: dropdown
# ````
#
# Only the target changes: $p - \bar p_{\text{teachers}}$ takes the place of $p - t$. We take teachers that have never
# seen the student's pictures, since on their own training pictures they are too sure to teach much. The labels of these
# new pictures the student never sees.

# %%
x_new = halved(x_train[-few:])  # the teachers have never seen these


def taught(teachers, seed):
    """A student of the teachers' average: its stack, trained like theirs."""
    goal = average(softmax(stack_logits(teachers, x_new))).astype("float32")
    student = random_stack([4000 + seed], [196, 64, 10])
    turns = deal([4000 + seed], few, cycle, 50)[0]
    for step, batch in enumerate(turns):
        w1, b1, w2, b2 = student
        hidden = np.maximum(x_new[batch] @ w1 + b1, 0)
        above = (softmax(hidden @ w2 + b2) - goal[batch]) / len(batch)
        below = above @ w2.swapaxes(-1, -2) * (hidden > 0)
        slopes = [x_new[batch].T @ below, below.sum(-2, keepdims=True)]
        slopes += [hidden.swapaxes(-1, -2) @ above, above.sum(-2, keepdims=True)]
        rate = np.float32(0.1 * (1 + math.cos(math.pi * step / len(turns))))
        for mine, slope in zip(student, slopes):
            mine -= rate * slope
    return student


students = []
for seed, (teachers,) in zip(seeds, spent["stack"]):
    p = softmax(stack_logits(taught(teachers, seed), x_few_test))
    students.append(accuracy(p, y_test)[0])
calipers.record(
    "ens-student",
    sample(students),
    "%",
    examples=tested,
    compared_with="ens-spend-one-net",
    title="Test accuracy of a student of five nets",
)

# %% [markdown]
# A teacher reads {glue:text}`ens-spend-one-net`, five teachers together {glue:text}`ens-spend-five-nets`, their student
# {glue:text}`ens-student`: against a single teacher {glue:text}`ens-student.difference:+.2f` ±
# {glue:text}`ens-student.noise:.2f` points, {glue:text}`ens-student.verdict`. Of their gain it keeps something only where that says *higher*.
# The students of {cite:t}`hinton2015` saw far more pictures. Yours can, too, since they need no labels: give it more
# pictures, shifted copies, or more steps, and look again.
#
# ````{solution-end}
# ````
#
# ## Summary
#
# - Identical nets differ by the luck of the seed, and that is less than the binomial error of the test set, because hard
#   pictures are hard for all.
# - In squared error an average gains exactly what its members disagree by, in cross-entropy it never loses. In accuracy
#   ten nets gain {glue:text}`ens-gain`.
# - Average or vote: it hardly matters. Two nets bring about half of what ten bring.
# - Disagreement measures confidence, except for what all members share.
# - Average answers, not weights. If you calibrate, do it after averaging, and measure whether it matters. Compare on the
#   same pictures, pair by pair.
# - A seed fixes the draws and not the sums. What a number has to survive is another seed.
#
# **Further reading.** {cite:t}`hansen1990` and {cite:t}`krogh1994` began it; {cite:t}`lakshminarayanan2017` made
# ensembles of deep nets a measure of uncertainty, and {cite:t}`fort2019` show that nets from different first weights find
# different functions while snapshots of one training stay alike. {cite:t}`huang2017` propose the snapshots. On luck read
# {cite:t}`jordan2024`, {cite:t}`summers2021` and {cite:t}`picard2021`; on what to vary, {cite:t}`bouthillier2021`; on the
# calibration of ensembles, {cite:t}`rahaman2021`.
#
# ```{provenance}
# ```
