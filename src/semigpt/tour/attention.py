"""Chapters 18 to 23: how characters learn to look back, from plain averages to residual blocks."""

from __future__ import annotations

from collections.abc import Iterator

from semigpt.tour.bigram import BATCH, BLOCK, how_long
from semigpt.tour.session import Session

__all__ = ["chapters"]

WIDTH = 32  # the book's: numbers a character
HEADS = 4
HEAD = WIDTH // HEADS


def chapters(session: Session, *, seed: int) -> Iterator[str]:
    """They go on in the session that the chapters of `bigram` have left."""
    yield from averaging(session, seed)
    yield from queries_keys_values(session, seed)
    yield from square_root(session, seed)
    yield from several_heads(session, seed)
    yield from feed_forward(session, seed)
    yield from residual_blocks(session, seed)


def averaging(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("앞 글자들과 나누기: 평균", "Sharing with the characters before: averages")
    yield s.say(
        "바이그램은 바로 앞 글자 하나만 보았습니다. 더 잘 맞히려면 앞의 글자들이 가진 것을 한데 모아야 합니다. 가장 쉬운 방법은 평균입니다. 글자마다 "
        "숫자 두 개짜리 벡터를 주고, 자리마다 처음부터 그 자리까지를 평균해 봅시다. 뒤의 글자는 맞혀야 할 답이므로 보면 안 됩니다.",
        "The bigram saw one character back. To guess better, what the characters before know must be brought together, "
        "and the easiest way is to average. Give each character a vector of two numbers and, at each place, average from "
        "the first place to this one. Later characters are the answers: they must not be looked at.",
    )
    yield s.run(f"""
        from torch import nn
        seeded = torch.manual_seed({seed})
        x = nn.Embedding(V, 2)(inputs).detach()
        x.shape
        averages = torch.zeros({BATCH}, {BLOCK}, 2)
        for b in range({BATCH}):
            for t in range({BLOCK}):
                averages[b, t] = x[b, : t + 1].mean(dim=0)
        x[0]
        averages[0]
    """)
    yield s.say(
        f"첫 블록 `{s['tokenizer'].decode(s['inputs'][0])!r}`에서 첫 줄은 첫 글자 그대로이고, 둘째 줄은 두 글자의 평균, 마지막 줄은 {BLOCK}글자 모두의 "
        "평균입니다. 그런데 이중 반복문은 느립니다. 아래쪽 세모만 남긴 행렬(`tril`)을 한 번 곱하면 똑같은 일을 할 수 있습니다.",
        f"In the first block, `{s['tokenizer'].decode(s['inputs'][0])!r}`, the first row is the first character itself, the "
        f"second the average of two, the last of all {BLOCK}. But two loops are slow. One product with a lower triangular "
        "matrix (`tril`) does the same.",
    )
    yield s.run(f"""
        triangle = torch.tril(torch.ones({BLOCK}, {BLOCK}))
        weights = triangle / triangle.sum(dim=1, keepdim=True)
        weights
        torch.allclose(weights @ x, averages, atol=1e-6)
    """)
    yield s.say(
        "셋째 방법은 소프트맥스입니다. 점수를 모두 0으로 두고, 보면 안 되는 자리의 점수를 -∞로 가린 다음 소프트맥스를 씌웁니다. e의 -∞제곱은 0이므로 "
        "가린 자리의 몫은 0이 되고, 나머지는 똑같이 나눠 갖습니다.",
        "The third way is softmax. Let all scores be 0, mask those that must not be seen with -∞, and take the softmax. "
        "Since e to the -∞ is 0, masked places get nothing and the others share evenly.",
    )
    yield s.run(f"""
        scores = torch.zeros({BLOCK}, {BLOCK}).masked_fill(triangle == 0, float("-inf"))
        scores[:3]
        torch.allclose(scores.softmax(dim=1), weights)
        torch.allclose(scores.softmax(dim=1) @ x, averages, atol=1e-6)
    """)
    yield s.say(
        "세 방법의 결과가 모두 같습니다. 셋째 방법이 중요한 까닭은, 점수가 꼭 0일 필요가 없기 때문입니다. 점수를 글자마다 다르게 줄 수 있다면 어느 글자를 "
        "더 많이 볼지 모델이 스스로 정할 수 있습니다. 그것이 어텐션입니다.",
        "All three agree. The third matters because the scores need not be 0. If each pair of characters can have its own "
        "score, the model can decide for itself whom to look at more. That is attention.",
    )


def queries_keys_values(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("질의, 키, 값", "Queries, keys and values")
    yield s.say(
        f"글자마다 이제 숫자 {WIDTH}개짜리 벡터를 주고, 몇 번째 자리인지 알려 주는 벡터를 더합니다. 그리고 세 가지를 계산합니다. 질의(query)는 '나는 무엇을 "
        "찾고 있나', 키(key)는 '나는 무엇을 가지고 있나', 값(value)은 '나를 본다면 무엇을 건네줄까'입니다. 질의와 키를 곱한 것이 점수이고, 점수에 따라 "
        "값들을 섞습니다. 이렇게 한 번 보는 일을 맡은 것을 헤드라고 합니다.",
        f"Each character now gets a vector of {WIDTH} numbers, plus one that tells its place. From it three more are computed. "
        "A query: what am I looking for? A key: what do I have? A value: what do I hand over to whoever looks at me? The "
        "product of a query and a key is the score, and by the scores the values are mixed. What does one such look is "
        "called a head.",
    )
    yield s.run(f"""
        seeded = torch.manual_seed({seed})
        embedding, position = nn.Embedding(V, {WIDTH}), nn.Embedding({BLOCK}, {WIDTH})
        x = (embedding(inputs) + position(torch.arange({BLOCK}))).detach()
        x.shape
        query, key, value = (nn.Linear({WIDTH}, {HEAD}, bias=False).requires_grad_(False) for _ in range(3))
        q, k, v = query(x), key(x), value(x)
        q.shape
        scores = q @ k.transpose(-2, -1) / {HEAD} ** 0.5
        weights = scores.masked_fill(triangle == 0, float("-inf")).softmax(dim=-1)
        out = weights @ v
        weights.shape, out.shape
        weights[0]
    """)
    yield s.say(
        f"[{BATCH}, {BLOCK}, {BLOCK}] 모양의 가중치는 블록마다, 자리마다, 어느 글자를 얼마나 보는지를 말합니다. 어느 줄이나 더하면 1이고, 오른쪽 위는 모두 "
        "0입니다. 첫 블록의 마지막 자리가 보는 곳은 이렇습니다.",
        f"The weights, [{BATCH}, {BLOCK}, {BLOCK}], say for each block and each place how much it looks at each character. Every "
        "row adds up to 1 and the upper right is 0. Here is where the last place of the first block looks.",
    )
    yield s.run("""
        for i, weight in zip(inputs[0], weights[0, -1]):
            print(repr(tokenizer.decode([i])), round(weight.item(), 3))
    """)
    yield s.say(
        "아직 배우지 않은 무작위 값이므로 뜻은 없습니다. 하지만 두 가지는 지금 확인할 수 있습니다. semigpt의 `attend`가 하는 계산도 이것과 같고, 마지막 "
        "글자를 다른 글자로 바꾸면 마지막 자리의 결과만 달라집니다.",
        "These are random, nothing has been learnt, and they mean nothing yet. But two things can be checked now: "
        "semigpt's own `attend` computes the same, and when the last character is another one, the result changes at the "
        "last place only.",
    )
    yield s.run(f"""
        from semigpt.models.attention import attend
        torch.allclose(attend(q, k, v), out, atol=1e-6)
        changed = inputs.clone()
        changed[:, -1] = (changed[:, -1] + 1) % V
        x_changed = (embedding(changed) + position(torch.arange({BLOCK}))).detach()
        out_changed = attend(query(x_changed), key(x_changed), value(x_changed))
        [round(difference, 4) for difference in (out_changed - out).abs().amax(dim=(0, 2)).tolist()]
    """)


def square_root(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("왜 √d로 나눌까요", "Why divide by √d")
    yield s.say(
        "점수를 헤드 크기 d의 제곱근으로 나누었습니다. 질의와 키에 든 숫자들의 분산이 1쯤이면, d개를 곱해 더한 점수의 분산은 d쯤이 됩니다. 여러분의 "
        "글에서 재어 봅시다. 점수의 분산(variance)과, 가장 많이 보는 글자 하나가 차지하는 몫(share)을 나누지 않을 때와 나눌 때로 적습니다.",
        "The scores were divided by the square root of the head's size d. If the numbers in queries and keys have a variance of "
        "about 1, a score, the sum of d of their products, has one of about d. Let us measure it on your text: the variance "
        "of the scores, and the share of the one character looked at most, without the division and with it.",
    )
    yield s.run(f"""
        seeded = torch.manual_seed({seed})
        many_x = F.layer_norm(embedding(many_inputs) + position(torch.arange({BLOCK})), ({WIDTH},)).detach()
        for d in (8, 32, 128):
            many_q, many_k = (many_x @ torch.randn({WIDTH}, d) / {WIDTH} ** 0.5 for _ in range(2))
            raw = many_q @ many_k.transpose(-2, -1)
            divided = raw / d ** 0.5
            share, divided_share = (each[:, -1].softmax(dim=-1).amax(dim=-1).mean() for each in (raw, divided))
            print(f"d={{d}}: variance {{raw.var():.2f}} → {{divided.var():.2f}}, share {{share:.2f}} → {{divided_share:.2f}}")
    """)
    yield s.say(
        "나누지 않으면 분산이 d를 따라 커지고, 소프트맥스가 한 글자에 몰려 나머지 글자로는 기울기가 거의 흐르지 않습니다. 나누면 d가 얼마든 분산이 1 "
        f"근처에 머뭅니다. 책은 임베딩 크기({WIDTH})의 제곱근으로 나누지만, 분산을 1로 만드는 것은 헤드 하나의 크기이므로 semigpt는 헤드 크기의 "
        "제곱근으로 나눕니다.",
        "Undivided, the variance grows with d; the softmax falls on one character, and hardly any gradient reaches the "
        f"others. Divided, it stays near 1 whatever d is. The book divides by the root of the embedding's size ({WIDTH}), but "
        "it is the size of one head that makes the variance 1, so semigpt divides by the root of that.",
    )
    yield s.say(
        f"이제 헤드 하나짜리 모델을 학습합니다. 헤드의 크기는 {WIDTH}, 나머지는 바이그램 때와 똑같이 합니다. {how_long(s)}만 기다려 주세요.",
        f"Now we train a model with one head, of size {WIDTH}, all else as with the bigram. Please wait {how_long(s)}.",
    )
    yield s.run(f"""
        from semigpt.models import build_model
        ladder = {{}}
        def climb(rung, model, steps):
            ladder[rung] = (model.parameter_count(), steps, measured(model, "train"), measured(model, "validation"))
            return f"{{steps}} steps: train {{ladder[rung][2]:.4f}}, validation {{ladder[rung][3]:.4f}}"
        climb("bigram", model, steps)
        rates = OptimizerSettings(optimizer="adamw", learning_rate=0.01, weight_decay=0.0)
        seeded = torch.manual_seed({seed})
        attention = build_model("attention", V, {{"context_length": {BLOCK}, "width": {WIDTH}}}).to(device)
        climb("attention", attention, trained(attention, rates))
    """)


def several_heads(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("여러 개의 헤드", "Several heads")
    yield s.say(
        f"헤드 하나는 한 번에 한 가지만 찾습니다. 그래서 크기 {WIDTH}짜리 헤드 하나 대신 크기 {HEAD}짜리 헤드 {HEADS}개를 나란히 두고, 결과를 이어 붙입니다. "
        f"숫자의 개수는 그대로인데 한 번에 {HEADS}가지를 볼 수 있습니다. {how_long(s)} 동안 학습합니다.",
        f"One head looks for one thing at a time. So instead of one head of {WIDTH} we put {HEADS} heads of {HEAD} side by side and join "
        f"their results: as many numbers as before, but {HEADS} looks at once. It trains for {how_long(s)}.",
    )
    yield s.run(f"""
        seeded = torch.manual_seed({seed})
        shape = {{"context_length": {BLOCK}, "width": {WIDTH}, "num_heads": {HEADS}}}
        multihead = build_model("multihead", V, shape).to(device)
        attention.parameter_count(), multihead.parameter_count()
        climb("multihead", multihead, trained(multihead, rates))
    """)
    yield s.say(
        "헤드들이 무엇을 보게 되었는지 들여다봅시다. 값 자리에 단위행렬을 넣으면 `attend`는 가중치를 그대로 돌려줍니다. 첫 블록의 마지막 자리가 각 글자를 "
        "얼마나 보는지, 글자마다 한 줄, 헤드마다 한 칸씩입니다.",
        "Let us see what the heads have come to look at. With the identity matrix in place of the values, `attend` gives "
        "the weights themselves. How much the last place of the first block looks at each character: a row a "
        "character, a column a head.",
    )
    yield s.run(f"""
        multihead = multihead.cpu().requires_grad_(False)
        x = multihead.token_embedding(inputs) + multihead.position_embedding.weight
        joined = multihead.heads.query_key_value(x).view({BATCH}, {BLOCK}, 3, {HEADS}, {HEAD})
        q, k, v = joined.permute(2, 0, 3, 1, 4)
        weights = attend(q, k, torch.eye({BLOCK}))
        weights.shape
        tokenizer.decode(inputs[0])
        for i, row in zip(inputs[0].tolist(), weights[0, :, -1].T.tolist()):
            print(repr(tokenizer.decode([i])), [round(weight, 2) for weight in row])
    """)
    favourites = (s["weights"][0, :, -1].argmax(dim=-1) + 1).tolist()
    yield s.say(
        f"헤드마다 가장 많이 보는 자리는 차례로 {', '.join(f'{place}번째' for place in favourites)}입니다. 서로 다른 곳을 볼수록 모이는 것도 다양해집니다.",
        f"The places looked at most are, head by head, {', '.join(map(str, favourites))}. The more they differ, the more of the "
        "context is gathered.",
    )


def feed_forward(s: Session, seed: int) -> Iterator[str]:
    yield s.heading(
        "피드포워드: 모은 것을 생각하기", "Feed-forward: thinking about what was gathered"
    )
    yield s.say(
        "어텐션은 값들을 섞어 평균할 뿐, 그것으로 무언가를 계산하지는 않습니다. 그래서 뒤에 작은 신경망을 붙입니다. 네 배로 넓혔다가, 음수를 0으로 만드는 "
        "ReLU를 거쳐, 다시 원래 크기로 줄입니다. 자리마다 따로 계산하므로 옆 글자와는 섞이지 않습니다.",
        "Attention mixes and averages values but computes nothing with them. So a small network comes behind it: four times "
        "as wide, then ReLU, which turns what is negative into 0, then back to the old size. Each place is computed alone; "
        "neighbours do not mix here.",
    )
    yield s.run(f"""
        seeded = torch.manual_seed({seed})
        feedforward = build_model("feedforward", V, shape)
        small = feedforward.feedforward.eval().requires_grad_(False)
        small
        gathered = multihead.heads(x)
        hidden = small.expand(gathered).relu()
        gathered.shape, hidden.shape, small(gathered).shape
        round((hidden == 0).float().mean().item(), 3)
    """)
    yield s.say(
        f"가운데의 {4 * WIDTH}칸 가운데 {(s['hidden'] == 0).float().mean().item():.1%}는 ReLU가 0으로 만들었습니다. 어느 칸이 꺼지느냐가 글자와 문맥에 따라 "
        "달라지기 때문에 경우를 나누어 생각할 수 있습니다. 또 하나, 외우는 것을 막으려고 학습 중에는 열에 하나꼴로 결과를 버립니다(드롭아웃). "
        f"{how_long(s)} 동안 학습합니다.",
        f"Of the {4 * WIDTH} places in the middle ReLU turned {(s['hidden'] == 0).float().mean().item():.1%} into 0. Which of them "
        "are off depends on the character and its context, and so different cases can be treated differently. And against "
        f"memorising, one result in ten is dropped while training (dropout). It trains for {how_long(s)}.",
    )
    yield s.run("""
        feedforward = feedforward.requires_grad_(True).to(device)
        climb("feedforward", feedforward, trained(feedforward, rates))
    """)


def residual_blocks(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("잔차 블록: 깊이 쌓기", "Residual blocks: stacking them deep")
    yield s.say(
        "어텐션과 피드포워드를 묶은 것이 블록이고, 블록을 여러 층 쌓으면 더 깊이 생각할 수 있습니다. 그런데 그냥 쌓으면 층을 지날 때마다 처음 글자가 "
        "흐려집니다. 그래서 결과를 원래 값에 더해 줍니다(x + 결과). 이것이 잔차 연결입니다. 배우지 않은 블록 여덟 개를 지난 뒤에 처음 벡터와 얼마나 "
        "닮았는지(코사인 유사도) 재어 봅시다.",
        "Attention and feed-forward together make a block, and blocks can be stacked to think further. But stacked plainly, "
        "each layer blurs what the character was. So the result is added to what was there (x + result): a residual "
        "connection. Let us measure how like the first vector what comes out of eight fresh blocks is (cosine similarity).",
    )
    yield s.run(f"""
        seeded = torch.manual_seed({seed})
        blocks = build_model("blocks", V, {{**shape, "num_layers": 8}}).blocks.eval().requires_grad_(False)
        plain = added = x
        for layer, block in enumerate(blocks, 1):
            plain, added = block(plain) - plain, block(added)
            alike = [F.cosine_similarity(x, each, dim=-1).mean().item() for each in (plain, added)]
            print(f"layer {{layer}}: plain {{alike[0]:.3f}}, added {{alike[1]:.3f}}")
    """)
    yield s.say(
        "더하지 않으면(plain) 처음 글자의 흔적이 첫 층부터 거의 사라지고, 더하면(added) 끝까지 남습니다. 블록은 글자를 새로 만드는 것이 아니라 조금씩 고치는 일을 맡게 됩니다. "
        "층마다 들어오는 값의 크기를 고르게 맞추는 일은 LayerNorm이 합니다.",
        "Stacked plainly, hardly a trace of the character is left after the first layer; added, it stays to the end. A block "
        "then need not make the vector anew, only correct it a little. LayerNorm keeps what comes into each layer at one "
        "scale.",
    )
    yield s.run("""
        block = blocks[0]
        f"{added.std():.3f} → {block.attention_norm(added).std():.3f}"
    """)
    yield s.say(
        f"이제 블록을 네 층 쌓은 모델을 학습합니다. 모양은 GPT-2와 같습니다. {how_long(s)}만 기다려 주세요.",
        f"Now a model of four layers, in the shape of GPT-2. Please wait {how_long(s)}.",
    )
    yield s.run(f"""
        seeded = torch.manual_seed({seed})
        blocks = build_model("blocks", V, shape).to(device)
        climb("blocks", blocks, trained(blocks, rates))
        tokenizer.decode(blocks.generate(start, 10, seed={seed})[0])
        tokenizer.decode(blocks.generate(start, 100, seed={seed})[0])
    """)
    yield s.say(
        "지금까지 오른 사다리를 한눈에 봅시다. 모두 같은 만큼 학습했고, 손실은 검증용 글에서 잰 값입니다.",
        "Here is the ladder climbed so far. Each rung trained for as long, and the loss is that on the validation text.",
    )
    yield s.run("""
        for rung, (parameters, steps, train_loss, validation_loss) in ladder.items():
            in_bits = bits(validation_loss)
            print(f"{rung:11} {parameters:>10,} {steps:>7,} steps  loss {validation_loss:.4f}  {in_bits:.3f} bits a character")
    """)
    best = min(s["ladder"], key=lambda rung: s["ladder"][rung][3])
    yield s.say(
        f"이 글에서 이만큼 학습했을 때 가장 잘 맞히는 것은 `{best}` 모델입니다. 학습 시간이 아주 짧으니 순서는 더 오래 학습하면 달라질 수 있습니다. "
        "여기까지 오느라 수고하셨습니다. 다음은 `semigpt train`입니다. 같은 글로 훨씬 큰 모델을 학습하고, `semigpt generate`로 글을 이어 쓰게 할 수 "
        "있습니다.",
        f"On this text, after this much training, `{best}` guesses best. The time was very short, and with more of it the order "
        "may change. You have come all the way. `semigpt train` is next: it trains a far larger model on the same text, and "
        "`semigpt generate` lets it write.",
    )
