"""Formulas of pages and docstrings, typeset as MathML when the site is built: browsers draw it, nothing is fetched.

In the sources a formula stays the line of text that an editor and ``help()`` show. What stands on the left here is
looked for there, whatever its line breaks, and the right is put in its place.
"""

import html
import re
from functools import cache

_SUM = r"\sum_k w_k A^k"
_RELU = rf"h = \operatorname{{ReLU}}\Bigl({_SUM}\Bigr)"

TYPESET = {
    # explainers
    "alpha_k = (1/Z) sum_ij dy_c/dA^k_ij": r"\alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial y_c}{\partial A^k_{ij}}",
    "M = sum_k alpha_k A^k": r"M = \sum_k \alpha_k A^k",
    "h = ReLU(M)": r"h = \operatorname{ReLU}(M)",
    "h = sum_k w_k^c A^k": r"h = \sum_k w_k^c A^k",
    "heatmap = sum_k w_k^c A^k": r"h = \sum_k w_k^c A^k",
    "h = ReLU(sum_k w_k A^k)": _RELU,
    "w_k = sum_ij a^k_ij ReLU(g^k_ij)": r"w_k = \sum_{ij} a^k_{ij} \operatorname{ReLU}(g^k_{ij})",
    "a = g^2 / (2 g^2 + g^3 sum_ab A^k_ab)": r"a = \frac{g^2}{2 g^2 + g^3 \sum_{ab} A^k_{ab}}",
    "g = dy_c/dA": r"g = \frac{\partial y_c}{\partial A}",
    "w_k = sum_ij (A^k_ij / sum_ab A^k_ab) g^k_ij": r"w_k = \sum_{ij} \frac{A^k_{ij}}{\sum_{ab} A^k_{ab}} \, g^k_{ij}",
    "h = ReLU(sum_k ReLU(g^k) A^k)": r"h = \operatorname{ReLU}\Bigl(\sum_k \operatorname{ReLU}(g^k) A^k\Bigr)",
    "h = ReLU(sum_k g^k A^k)": r"h = \operatorname{ReLU}\Bigl(\sum_k g^k A^k\Bigr)",
    "m_k = A^k upsampled": r"m_k = A^k \text{ upsampled}",
    "w_k = (y_c - y_c without A^k) / y_c": r"w_k = \frac{y_c - y_c\text{ without }A^k}{y_c}",
    "w_k = sum_ij R^k_ij": r"w_k = \sum_{ij} R^k_{ij}",
    "h = sum over channels of x * dy_c/dx": r"h = \sum_{\text{channels}} x \, \frac{\partial y_c}{\partial x}",
    "h = sum over channels of dy_c/dx": r"h = \sum_{\text{channels}} \frac{\partial y_c}{\partial x}",
    "h = sum over channels of |dy_c/dx|": r"h = \sum_{\text{channels}} \left| \frac{\partial y_c}{\partial x} \right|",
    "h = (1/n) sum_i |dy_c/dx| at x + noise_i": (
        r"h = \frac{1}{n} \sum_i \left| \frac{\partial y_c}{\partial x} \right|_{x + \text{noise}_i}"
    ),
    "h = sum over channels of (x - b) * (1/m) sum_k dy_c/dx at b + (k - 1/2)/m (x - b)": (
        r"h = \sum_{\text{channels}} (x - b) \, \frac{1}{m} \sum_{k=1}^{m} "
        r"\frac{\partial y_c}{\partial x} \Bigl( b + \frac{k - 1/2}{m} (x - b) \Bigr)"
    ),
    "R_j = x_j sum_k w_kj R_k / (z_k + 0.01 sign z_k)": (
        r"R_j = x_j \sum_k \frac{w_{kj} R_k}{z_k + 0.01 \operatorname{sign} z_k}"
    ),
    "h = 1/(N p) sum_i y_c(x * m_i) m_i": r"h = \frac{1}{N p} \sum_i y_c(x \, m_i) \, m_i",
    # relevance propagation
    "z_k = sum_j x_j w_kj + b_k": r"z_k = \sum_j x_j w_{kj} + b_k",
    "sum_k c+_kj R_k / (sum_j c+_kj + s)": r"\sum_k \frac{c^+_{kj} R_k}{\sum_j c^+_{kj} + s}",
    "sum_k (alpha c+_kj / sum_j c+_kj - beta c-_kj / sum_j c-_kj) R_k": (
        r"\sum_k \Bigl( \frac{\alpha c^+_{kj}}{\sum_j c^+_{kj}} - \frac{\beta c^-_{kj}}{\sum_j c^-_{kj}} \Bigr) R_k"
    ),
    "sum_k w_kj^2 R_k / sum_j w_kj^2": r"\sum_k \frac{w_{kj}^2 R_k}{\sum_j w_{kj}^2}",
    "sum_k R_k / n_k": r"\sum_k \frac{R_k}{n_k}",
    # metrics
    "1/(L+1) sum_{k=0..L} f(x^(0)) - f(x^(k))": (
        r"\frac{1}{L+1} \sum_{k=0}^{L} f\bigl(x^{(0)}\bigr) - f\bigl(x^{(k)}\bigr)"
    ),
    "(1 - SSIM) / 2": r"\frac{1 - \mathrm{SSIM}}{2}",
    "10 log10(1 / mean squared change)": r"10 \log_{10} \frac{1}{\text{mean squared change}}",
    "||h(x + d) - h(x)|| / ||h(x)||": r"\frac{\lVert h(x + d) - h(x) \rVert}{\lVert h(x) \rVert}",
    "(b I^T h - (f(x) - f(x - I)))^2": r"\bigl( b \, I^{\top} h - (f(x) - f(x - I)) \bigr)^2",
    "FSR = (1/n) sum_i 1[t_i in R]": r"\mathrm{FSR} = \frac{1}{n} \sum_i 1[t_i \in R]",
    # penalties
    "mean_j (h_j - m_j)^2": r"\operatorname{mean}_j (h_j - m_j)^2",
    "mean_j (h_j - t_j)^2": r"\operatorname{mean}_j (h_j - t_j)^2",
    "mean_j (h_j - r_j)^2": r"\operatorname{mean}_j (h_j - r_j)^2",
    "(1 - SSIM(h, t)) / 2": r"\frac{1 - \mathrm{SSIM}(h, t)}{2}",
    "(1 - SSIM(h, r)) / 2": r"\frac{1 - \mathrm{SSIM}(h, r)}{2}",
    "sqrt(rows^2 + cols^2)": r"\sqrt{\text{rows}^2 + \text{cols}^2}",
    "1/2 [mse(h_c1(w), h_c2(w0)) + mse(h_c2(w), h_c1(w0))]": (
        r"\frac{1}{2} \bigl[ \mathrm{mse}(h_{c_1}(w), h_{c_2}(w_0)) + \mathrm{mse}(h_{c_2}(w), h_{c_1}(w_0)) \bigr]"
    ),
    # audit
    "corr_m( sum_p c_mp h_p, y(x) - y(x with c_m filled) )": (
        r"\operatorname{corr}_m \Bigl( \sum_p c_{mp} h_p, \; y(x) - y(x\text{ with }c_m\text{ filled}) \Bigr)"
    ),
    "log((d_max + 0.001) / (d_median + 0.001))": r"\log \frac{d_{\max} + 0.001}{d_{\text{median}} + 0.001}",
    "max(s, d) * sqrt(1 + 1/n)": r"\max(s, d) \sqrt{1 + \frac{1}{n}}",
    # attention
    "R = (A_L + I)/2 ... (A_1 + I)/2": r"R = \frac{A_L + I}{2} \cdots \frac{A_1 + I}{2}",
    "R <- R + mean over heads of ReLU(dy_c/dA * A) R": (
        r"R \leftarrow R + \operatorname{mean}_{\text{heads}} \operatorname{ReLU}\Bigl("
        r"\frac{\partial y_c}{\partial A} \, A\Bigr) \, R"
    ),
    # explainers, as their docstrings write them
    "heatmap = ReLU(sum_k w_k A^k)": _RELU,
    "heatmap = ReLU(sum_k ReLU(dy_c/dA^k) A^k)": (
        r"h = \operatorname{ReLU}\Bigl(\sum_k "
        r"\operatorname{ReLU}\Bigl(\frac{\partial y_c}{\partial A^k}\Bigr) A^k\Bigr)"
    ),
    "heatmap = sum_k dy_c/dA^k A^k": r"h = \sum_k \frac{\partial y_c}{\partial A^k} \, A^k",
    "w_k = sum_ij (A^k_ij / sum_ab A^k_ab) dy_c/dA^k_ij": (
        r"w_k = \sum_{ij} \frac{A^k_{ij}}{\sum_{ab} A^k_{ab}} \, \frac{\partial y_c}{\partial A^k_{ij}}"
    ),
    "heatmap = 1/(N p) sum_i y_c(x * m_i) m_i": r"h = \frac{1}{N p} \sum_i y_c(x \, m_i) \, m_i",
    "heatmap = sum over channels of (x - b) * (1/m) sum_k dy_c/dx at b + (k - 1/2)/m (x - b)": (
        r"h = \sum_{\text{channels}} (x - b) \, \frac{1}{m} \sum_{k=1}^{m} "
        r"\frac{\partial y_c}{\partial x} \Bigl( b + \frac{k - 1/2}{m} (x - b) \Bigr)"
    ),
    # relevance propagation, as the rules write it
    "R_j = x_j sum_k w_kj R_k / (z_k + stabilizer * sign z_k)": (
        r"R_j = x_j \sum_k \frac{w_{kj} R_k}{z_k + \text{stabilizer} \cdot \operatorname{sign} z_k}"
    ),
    "R_j = sum_k (x_j w_kj)+ / z_k+ R_k": r"R_j = \sum_k \frac{(x_j w_{kj})^+}{z_k^+} \, R_k",
    "R_j = sum_k (alpha * (x_j w_kj)+ / z_k+ - beta * (x_j w_kj)- / z_k-) R_k": (
        r"R_j = \sum_k \Bigl( \alpha \frac{(x_j w_{kj})^+}{z_k^+} - \beta \frac{(x_j w_{kj})^-}{z_k^-} \Bigr) R_k"
    ),
    "R_j = sum_k (c_kj + gamma * c_kj^s) / sum_j (...) R_k": (
        r"R_j = \sum_k \frac{c_{kj} + \gamma \, c_{kj}^s}{\sum_j (\ldots)} \, R_k"
    ),
    "R_j = sum_k (x_j w_kj - l_j w_kj+ - h_j w_kj-) / sum_j (...) R_k": (
        r"R_j = \sum_k \frac{x_j w_{kj} - l_j w_{kj}^+ - h_j w_{kj}^-}{\sum_j (\ldots)} \, R_k"
    ),
    "R_j = sum_k w_kj^2 / sum_j w_kj^2 R_k": r"R_j = \sum_k \frac{w_{kj}^2}{\sum_j w_{kj}^2} \, R_k",
    "R_j = sum_k R_k / n_k": r"R_j = \sum_k \frac{R_k}{n_k}",
    "R_j = sum_k (c_kj)^s / sum_j (c_kj)^s R_k": r"R_j = \sum_k \frac{(c_{kj})^s}{\sum_j (c_{kj})^s} \, R_k",
    "R_j = sum_k c_kj / (z_k + stabilizer * sign z_k) R_k": (
        r"R_j = \sum_k \frac{c_{kj}}{z_k + \text{stabilizer} \cdot \operatorname{sign} z_k} \, R_k"
    ),
    # defences
    "(1/n) sum_i h(x + noise_i)": r"\frac{1}{n} \sum_i h(x + \text{noise}_i)",
    "heatmap = (1/n) sum_i h(x + noise_i)": r"h = \frac{1}{n} \sum_i h(x + \text{noise}_i)",
    "(1/K) sum_k h_k / s(h_k)": r"\frac{1}{K} \sum_k \frac{h_k}{s(h_k)}",
    "heatmap = (1/K) sum_k h_k / s(h_k)": r"h = \frac{1}{K} \sum_k \frac{h_k}{s(h_k)}",
    "log(1 + exp(beta x))/beta": r"\frac{\log(1 + e^{\beta x})}{\beta}",
    "log(1 + exp(beta x)) / beta": r"\frac{\log(1 + e^{\beta x})}{\beta}",
    "values <- V V^T values": r"\text{values} \leftarrow V V^{\top} \, \text{values}",
    "err = sqrt(ln(2d/(1 - confidence))/(2n))": (
        r"\mathrm{err} = \sqrt{\frac{\ln \frac{2 d}{1 - \text{confidence}}}{2 n}}"
    ),
    # robust training
    "|H v|^2": r"\lvert H v \rvert^2",
    r"\|H v\|^2": r"\lvert H v \rvert^2",
    r"\|H\|_F^2": r"\lVert H \rVert_F^2",
    "|g - g'|^2": r"\lvert g - g' \rvert^2",
    r"\|g - g'\|^2": r"\lvert g - g' \rvert^2",
    "(1 - cos(g, g')) / 2": r"\frac{1 - \cos(g, g')}{2}",
    "(1 - cos(g, g'))/2": r"\frac{1 - \cos(g, g')}{2}",
    "lambda_max(L^T W^T W L)": r"\lambda_{\max}(L^{\top} W^{\top} W L)",
    "L L^T = diag(p) - p p^T": r"L L^{\top} = \operatorname{diag}(p) - p p^{\top}",
    "sum_c p_c (d log p_c / dx) (d log p_c / dx)^T": (
        r"\sum_c p_c \, \frac{\partial \log p_c}{\partial x} \Bigl( \frac{\partial \log p_c}{\partial x} \Bigr)^{\top}"
    ),
    # attacks and lies
    "g = 1 / (2 n sigma) * sum_i d_i (L(x + sigma d_i) - L(x - sigma d_i))": (
        r"g = \frac{1}{2 n \sigma} \sum_i d_i \bigl( L(x + \sigma d_i) - L(x - \sigma d_i) \bigr)"
    ),
    "mean_{j in P} |h_j|^power": r"\operatorname{mean}_{j \in P} \lvert h_j \rvert^{\text{power}}",
    "sum_{j in P} |h_j|": r"\sum_{j \in P} \lvert h_j \rvert",
    "sum_j b_j h_j^+ / sum_j h_j^+": r"\frac{\sum_j b_j h_j^+}{\sum_j h_j^+}",
    "E = sum_k r_k A_k": r"E = \sum_k r_k A_k",
    # metrics, as their docstrings write them
    "r = corr_m( sum_p c_mp h_p , y(x) - y(x with the pixels c_m filled) )": (
        r"r = \operatorname{corr}_m \Bigl( \sum_p c_{mp} h_p, \; "
        r"y(x) - y(x\text{ with the pixels }c_m\text{ filled}) \Bigr)"
    ),
    "mean_i m(h(x), h(x + d_i))": r"\operatorname{mean}_i m(h(x), h(x + d_i))",
    "max_i || h(x + d_i) - h(x) || / || h(x) ||": r"\max_i \frac{\lVert h(x + d_i) - h(x) \rVert}{\lVert h(x) \rVert}",
    "E_I [ (b I^T h - (f(x) - f(x - I)))^2 ]": (
        r"\operatorname{E}_I \Bigl[ \bigl( b \, I^{\top} h - (f(x) - f(x - I)) \bigr)^2 \Bigr]"
    ),
    "s_i u_i - sum_j w_ij u_j = sum_known w_ik x_k": r"s_i u_i - \sum_j w_{ij} u_j = \sum_{\text{known}} w_{ik} x_k",
    "(2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a^2 + s_b^2 + c2))": (
        r"\frac{(2 m_a m_b + c_1)(2 s_{ab} + c_2)}{(m_a^2 + m_b^2 + c_1)(s_a^2 + s_b^2 + c_2)}"
    ),
    "r = sum_j (a_j - m_a)(b_j - m_b) / (|a - m_a| |b - m_b|)": (
        r"r = \frac{\sum_j (a_j - m_a)(b_j - m_b)}{\lvert a - m_a \rvert \, \lvert b - m_b \rvert}"
    ),
    "exp(-x^2 / (2 sigma^2))": r"e^{-x^2 / (2 \sigma^2)}",
    "||w - w0|| / ||w0||": r"\frac{\lVert w - w_0 \rVert}{\lVert w_0 \rVert}",
}
"""LaTeX, by the text that stands in the sources."""

MARK = re.compile(r'<span class="formula">(.*?)</span>')
CODE = re.compile(r"(?ms)(^```.*?^```$|`[^`\n]+`)")


@cache
def _pattern() -> re.Pattern[str]:
    longest = sorted(TYPESET, key=len, reverse=True)
    spaced = [r"\s+".join(map(re.escape, text.split())) for text in longest]
    # no part of a longer word or product
    return re.compile(rf"(?<![\w^*/]){'(?:' + '|'.join(spaced) + ')'}(?![\w^])")


@cache
def mathml(latex: str) -> str:
    """The formula as MathML within a line, with fractions and sums as large as on a line of their own."""
    from latex2mathml.converter import convert  # an extra of its own

    return convert(latex).replace("<math ", '<math displaystyle="true" ', 1)


def marked(text: str) -> str:
    """Markdown with a mark for each formula that is known; code stays as it is.

    Markdown takes MathML itself for a block, which would end the paragraph.

    >>> marked("h = ReLU(M), code `h = ReLU(M)` stays")
    '<span class="formula">h = ReLU(M)</span>, code `h = ReLU(M)` stays'
    """
    parts = CODE.split(text)
    # every other part is code
    for place in range(0, len(parts), 2):
        parts[place] = _pattern().sub(_mark, parts[place])
    return "".join(parts)


def _mark(found: re.Match[str]) -> str:
    # as entities, of which Markdown makes nothing else
    plain = "".join(c if c.isalnum() or c in " ()=," else f"&#{ord(c)};" for c in " ".join(found.group().split()))
    return f'<span class="formula">{plain}</span>'


def typeset(page: str) -> str:
    """HTML in which the marks of :func:`marked` are MathML."""
    return MARK.sub(lambda found: mathml(TYPESET[html.unescape(found.group(1))]), page)
