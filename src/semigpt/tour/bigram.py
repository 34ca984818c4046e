"""Chapters 1 to 17: from the first document to a table of character pairs that has learnt to write."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from semigpt.errors import CorpusError
from semigpt.tour.session import Session
from semigpt.tour.text import separate_splits

__all__ = ["chapters"]

BLOCK = 8  # the book's context length, and its batch of blocks
BATCH = 4
LONGEST_SENTENCE = 40  # characters


def chapters(session: Session, *, corpus: str, training: str, seed: int) -> Iterator[str]:
    """`corpus` and `training` are the arguments that the lines shown give to `prepare_corpus` and `TrainingSettings`."""
    yield from first_document(session, corpus)
    yield from vocabulary(session)
    yield from encoding(session)
    yield from ids(session)
    yield from split(session)
    yield from block(session)
    yield from batch(session, seed)
    yield from table(session)
    yield from cross_entropy(session)
    yield from fresh_loss(session, seed)
    yield from last_position(session, seed)
    yield from first_characters(session, seed)
    yield from optimizer(session)
    yield from counts(session)
    yield from training_the_table(session, training, seed)
    yield from device(session)
    yield from both_losses(session)


def first_document(s: Session, arguments: str) -> Iterator[str]:
    # Run before anything is shown: a text that cannot be read is one line of error, not half a page.
    opened = s.run(f"""
        from semigpt import prepare_corpus
        from semigpt.tour import opening_text
        corpus = prepare_corpus({arguments})
        document = next(corpus.documents("train"))
        document[:200]
        len(document)
        text = opening_text(corpus)
        len(text)
    """)
    text, corpus = s["text"], s["corpus"]
    characters = sum(corpus.characters(name) for name in separate_splits(corpus))
    if len(text) < 2 * (BLOCK + 1):
        raise CorpusError(
            f"the text has {len(text)} characters, fewer than the {2 * (BLOCK + 1)} a tour needs: a block of {BLOCK} with "
            "its last target to learn from, and one to hold out; give it a longer text with --data"
        )
    yield s.heading("첫 문서", "The first document")
    yield s.say(
        "언어 모델은 글을 읽고 다음에 올 글자를 맞히는 기계입니다. 여기서는 여러분의 글로 그런 모델을 처음부터 만들어 봅니다. "
        "`>>>`로 시작하는 줄은 지금 실제로 실행한 파이썬 코드이고, 그 아래 줄은 방금 계산한 결과입니다. "
        "파이썬을 열어 그대로 따라 입력해도 같은 결과가 나옵니다. 먼저 글을 불러와 첫 문서를 읽어 봅시다.",
        "A language model reads a text and guesses the character that comes next. Here you build one from nothing, on "
        "your own text. A line that begins with `>>>` is Python that has just been run, and below it stands its real "
        "answer: type the same lines into Python and you get the same. First we open the text and read its first "
        "document.",
    )
    yield opened
    yield s.say(
        f"첫 문서는 {len(s['document']):,}자입니다. 문서를 모두 이어 붙이면 글 전체가 {len(text):,}자가 됩니다."
        if len(text) == characters
        else f"첫 문서는 {len(s['document']):,}자입니다. 글 전체는 {characters:,}자로 꽤 길어서, 기다리는 시간을 줄이려고 여기"
        f"서는 앞에서부터 {len(text):,}자만 씁니다.",
        f"The first document has {len(s['document']):,} characters; all documents, one behind the other, have {len(text):,}."
        if len(text) == characters
        else f"The first document has {len(s['document']):,} characters. The whole text has {characters:,}; so that nobody "
        f"waits, the tour uses its first {len(text):,}.",
    )


def vocabulary(s: Session) -> Iterator[str]:
    yield s.heading("글자와 어휘", "Characters and vocabulary")
    yield s.say(
        "컴퓨터는 글자를 모르고 숫자만 압니다. 그래서 글에 나오는 서로 다른 글자를 모두 모아 순서대로 번호를 붙입니다. "
        "이 글자들의 모음이 어휘이고, 그 크기를 V라고 부릅니다.",
        "A computer knows numbers, not characters. So we collect the distinct characters of the text, put them in order "
        "and number them. They are the vocabulary, and its size is called V.",
    )
    yield s.run("""
        characters = sorted(set(text))
        V = len(characters)
        V
        "".join(characters[:60])
        "".join(characters[-60:])
    """)
    yield s.say(
        f"이 글에는 서로 다른 글자가 {s['V']:,}개 나옵니다. 줄바꿈과 빈칸도 글자 하나로 칩니다. 영어라면 100개 남짓이면 되지만, 한글은 "
        "한 음절이 한 글자라서 한국어 글의 어휘는 훨씬 큽니다.",
        f"This text has {s['V']:,} distinct characters; line breaks and spaces are characters too. English gets by with "
        "about 100, but in Korean each syllable is a character of its own, and a vocabulary is far larger.",
    )


def encoding(s: Session) -> Iterator[str]:
    yield s.heading("문장을 숫자로, 숫자를 문장으로", "A sentence encoded and decoded")
    yield s.say(
        "글자를 번호로 바꾸는 일을 인코딩, 번호를 글자로 되돌리는 일을 디코딩이라고 합니다. 이 일을 하는 도구가 토크나이저입니다. "
        "글에서 한 문장을 골라 바꿨다가 되돌려 봅시다.",
        "Turning characters into ids is encoding, turning ids back is decoding, and what does both is a tokenizer. "
        "Let us take a sentence of the text there and back.",
    )
    yield s.run(f"""
        from semigpt import CharTokenizer
        tokenizer = CharTokenizer.plain(text)
        sentence = {first_sentence(s["text"])!r}
        tokenizer.encode(sentence).tolist()
        tokenizer.decode(tokenizer.encode(sentence))
        tokenizer.decode(tokenizer.encode(sentence)) == sentence
    """)
    yield s.say(
        f"{len(s['sentence'])}자가 번호 {len(s['sentence'])}개가 되었고, 되돌리니 처음과 똑같은 문장이 나왔습니다. 잃어버린 것이 없습니다.",
        f"{len(s['sentence'])} characters became {len(s['sentence'])} ids, and decoding gave the very same sentence back: "
        "nothing was lost.",
    )


def first_sentence(text: str) -> str:
    """The text's first sentence that says something, cut where it is long."""
    sentences = (found.strip() for found in re.findall(r"[^.!?\n]+[.!?]?", text))
    return next((found for found in sentences if len(found) > 1), text)[:LONGEST_SENTENCE]


def ids(s: Session) -> Iterator[str]:
    yield s.heading("글 전체를 텐서 하나로", "The whole text as one tensor")
    yield s.say(
        "이제 글 전체를 번호로 바꿔 PyTorch의 텐서에 담습니다. 텐서는 모양(shape)과 자료형(dtype)이 정해진 숫자 상자입니다. "
        "앞의 100개를 봅시다.",
        "Now the whole text becomes ids in a PyTorch tensor: a box of numbers with a shape and a type. Here are its "
        "first 100.",
    )
    yield s.run("""
        import torch
        encoded = tokenizer.encode(text)
        data = torch.from_numpy(encoded.astype("int64"))
        data.shape, data.dtype
        data[:100]
    """)
    yield s.say(
        f"번호는 0부터 {s['V'] - 1:,}까지라서 한 개에 {8 * s['encoded'].itemsize}비트({s['encoded'].dtype})면 충분하고, semigpt도 디스크에는 "
        f"그렇게 저장합니다. 전체가 {s['encoded'].nbytes:,}바이트입니다. int64로 바꾸면 {s['data'].nbytes:,}바이트로 커집니다. 그런데도 int64를 쓰는 "
        "까닭은, 이 번호가 곧 정답이 되는데 PyTorch의 손실 함수가 정답을 int64로 받기 때문입니다. int32를 넣으면 이렇게 거절합니다.",
        f"The ids run from 0 to {s['V'] - 1:,}, so {8 * s['encoded'].itemsize} bits each ({s['encoded'].dtype}) are enough, and "
        f"that is how semigpt keeps them on disk: {s['encoded'].nbytes:,} bytes in all. As int64 they take {s['data'].nbytes:,}. "
        "Why int64 then? Because these ids will be the right answers, and PyTorch's loss takes answers as int64. Here is "
        "what it says to int32.",
    )
    yield s.mistake("""
        import torch.nn.functional as F
        F.cross_entropy(torch.zeros(1, V), data[:1].to(torch.int32))
    """)


def split(s: Session) -> Iterator[str]:
    yield s.heading("학습용과 검증용", "What is learnt from and what is held out")
    yield s.say(
        "글을 전부 학습에 쓰면, 모델이 배운 것인지 그저 외운 것인지 알 수 없습니다. 그래서 앞의 90%로만 배우고, 뒤의 10%는 "
        "시험지로 따로 남겨 둡니다.",
        "If the model learnt from all of the text we could not tell learning from memorising. So it learns from the first "
        "90 %, and the last 10 % is kept for testing.",
    )
    length = len(s["data"])
    if length - int(0.9 * length) > BLOCK:
        cut = "int(0.9 * len(data))"
    else:
        yield s.say(
            f"이 글은 아주 짧아서 10%를 남기면 시험지가 한 블록({BLOCK}자와 마지막 정답)도 되지 않습니다. 한 블록만큼을 남기겠습니다.",
            f"This text is so short that 10 % of it would not make one block ({BLOCK} characters and the last answer); one "
            "block is held out instead.",
        )
        cut = f"len(data) - {BLOCK + 1}"
    yield s.run(f"""
        n = {cut}
        train_ids, validation_ids = data[:n], data[n:]
        len(train_ids), len(validation_ids)
    """)


def block(s: Session) -> Iterator[str]:
    yield s.heading("블록: 문맥과 정답", "A block: contexts and targets")
    yield s.say(
        f"모델에게 글을 한꺼번에 보여 주지는 않습니다. {BLOCK}자씩 잘라 보여 주는데, 이 조각을 블록이라고 합니다. 정답은 블록을 한 칸 뒤로 "
        f"민 것입니다. 그러면 블록 하나에 문제가 {BLOCK}개 들어 있습니다.",
        f"The model never sees the text at once but {BLOCK} characters at a time: a block. Its answers are the same "
        f"characters one place later, so one block holds {BLOCK} questions.",
    )
    yield s.run(f"""
        x, y = train_ids[:{BLOCK}], train_ids[1:{BLOCK + 1}]
        x
        y
        for t in range({BLOCK}):
            print(x[: t + 1].tolist(), "→", y[t].item())
        for t in range({BLOCK}):
            print(repr(tokenizer.decode(x[: t + 1])), "→", repr(tokenizer.decode(y[t : t + 1])))
    """)
    yield s.say(
        f"문맥이 1글자일 때부터 {BLOCK}글자일 때까지 골고루 연습하므로, 나중에 한 글자만 주어도 글을 이어 쓸 수 있습니다.",
        f"It practises with every length of context from 1 to {BLOCK}, so later it can go on from a single character.",
    )


def batch(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("배치: 블록 여러 개를 한 번에", "A batch: several blocks at once")
    yield s.say(
        f"컴퓨터는 같은 계산을 여러 개 묶어서 할 때 빠릅니다. 글의 아무 곳에서나 블록 {BATCH}개를 뽑아 쌓은 것이 배치입니다. semigpt의 배치는 "
        "시드와 단계 번호만으로 정해지므로 언제 다시 뽑아도 똑같습니다.",
        f"Computers are fast when they do one thing many times side by side. A batch is {BATCH} blocks from random places of "
        "the text, stacked. In semigpt a batch follows from the seed and the step's number alone, so it can be drawn again "
        "at any time.",
    )
    yield s.run(f"""
        from semigpt.dataset import Dataset, TokenStream
        streams = {{"train": TokenStream([encoded[:n]], 1), "validation": TokenStream([encoded[n:]], 1)}}
        dataset = Dataset(streams, V, corpus.fingerprint, tokenizer.fingerprint)
        inputs, targets = dataset.batch("train", {BLOCK}, {BATCH}, seed={seed}, order="random")
        inputs.shape, targets.shape
        inputs
        targets
        for row in inputs:
            print(repr(tokenizer.decode(row)))
    """)
    yield s.say(
        f"모양 [{BATCH}, {BLOCK}]은 블록 {BATCH}개에 글자가 {BLOCK}개씩이라는 뜻입니다. 문제는 모두 {BATCH * BLOCK}개입니다.",
        f"The shape [{BATCH}, {BLOCK}] says {BATCH} blocks of {BLOCK} characters: {BATCH * BLOCK} questions.",
    )


def table(s: Session) -> Iterator[str]:
    yield s.heading("가장 단순한 모델: 표 하나", "The simplest model: one table")
    yield s.say(
        f"첫 모델은 V × V 크기의 표입니다. i번 글자의 줄에는 그다음에 올 글자 후보 {s['V']:,}개의 점수가 적혀 있습니다. 이 점수를 로짓이라고 "
        "부릅니다. 모델이 하는 일은 글자 번호로 줄을 찾아 읽는 것뿐입니다. 바로 앞 글자 하나만 보므로 바이그램 모델이라고 합니다.",
        f"Our first model is a V × V table. The row of character i holds {s['V']:,} scores, one for each character that may "
        "come next. The scores are called logits. All the model does is look up a row; it sees one character back and no "
        "further, and so it is called a bigram model.",
    )
    yield s.run(f"""
        from semigpt import ModelSettings, SemiGPT
        model = SemiGPT(ModelSettings(vocab_size=V, context_length={BLOCK}))
        model.embedding_token_table
        model.parameter_count()
        logits, _ = model(inputs)
        logits.shape
        torch.equal(logits[0, 0], model.embedding_token_table.weight[inputs[0, 0]])
    """)
    yield s.say(
        f"{BATCH}개 블록의 {BLOCK}자리마다 {s['V']:,}개의 점수가 나와서 모양은 [{BATCH}, {BLOCK}, {s['V']}]입니다. 표에 든 숫자는 모두 "
        f"{s['model'].parameter_count():,}개이고, 학습은 이 숫자를 조금씩 고치는 일입니다.",
        f"Each of the {BLOCK} places of {BATCH} blocks got {s['V']:,} scores: [{BATCH}, {BLOCK}, {s['V']}]. The table holds "
        f"{s['model'].parameter_count():,} numbers, and training is nothing but changing them a little at a time.",
    )


def cross_entropy(s: Session) -> Iterator[str]:
    rows = BATCH * BLOCK
    yield s.heading("손실: 왜 모양을 바꿔야 할까요", "The loss, and why the shape must change")
    yield s.say(
        "모델이 얼마나 틀렸는지 재는 숫자를 손실이라고 합니다. 교차 엔트로피는 정답에 준 확률 p로 -ln p를 계산해 평균합니다. "
        "정답에 확률 1을 주었다면 0, 작은 확률을 줄수록 커집니다. 그런데 로짓과 정답을 그대로 넣으면 오류가 납니다.",
        "The loss says how wrong the model is. Cross-entropy takes -ln p of the probability p given to each right answer, "
        "and averages: 0 if p was 1, and the more the smaller p was. But give PyTorch our logits and targets as they are "
        "and it refuses.",
    )
    yield s.mistake("F.cross_entropy(logits, targets)")
    yield s.say(
        f"PyTorch는 두 번째 차원을 후보의 개수로 읽습니다. 그래서 [{BATCH}, {BLOCK}, {s['V']}] 모양을 후보가 {BLOCK}개인 문제로 오해하고, 모양이 "
        f"[{BATCH}, {s['V']}]인 정답을 기대한 것입니다. 우리에게는 후보 {s['V']:,}개 가운데 하나를 맞히는 문제가 {BATCH} × {BLOCK} = {rows}개 있을 뿐이므로, 로짓은 "
        f"[{rows}, {s['V']}] 모양으로, 정답은 [{rows}] 모양으로 펴서 넣으면 됩니다.",
        f"PyTorch reads the second dimension as the candidates. In [{BATCH}, {BLOCK}, {s['V']}] it saw {BLOCK} candidates and "
        f"expected targets of shape [{BATCH}, {s['V']}]. What we have is {BATCH} × {BLOCK} = {rows} questions with {s['V']:,} candidates "
        f"each, so we flatten the logits to [{rows}, {s['V']}] and the targets to [{rows}].",
    )
    yield s.run("""
        logits.flatten(0, 1).shape, targets.flatten().shape
        F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        _, loss = model(inputs, targets)
        loss
    """)
    yield s.say(
        "정답을 함께 주면 모델이 이 일을 대신 해 줍니다. 두 값이 같습니다.",
        "Given the targets too, the model does this itself. The two are the same.",
    )


def fresh_loss(s: Session, seed: int) -> Iterator[str]:
    log_v = math.log(s["V"])
    yield s.heading("갓 만든 모델의 손실은 ln V", "A fresh model's loss is ln V")
    yield s.say(
        f"아직 아무것도 배우지 않았으니 모든 글자를 똑같이 1/V의 확률로 봅니다. 그때의 손실은 -ln(1/V) = ln V입니다. 후보가 {s['V']:,}개이므로 "
        f"그 값은 {log_v:.4f}입니다.",
        f"It has learnt nothing yet, so every character gets the same probability 1/V, and the loss is -ln(1/V) = ln V. "
        f"With {s['V']:,} candidates that must be {log_v:.4f}.",
    )
    yield s.run("""
        import math
        round(loss.item(), 4), round(math.log(V), 4)
    """)
    yield s.say(
        "꼭 맞습니다. 학습을 시작하기 전에 이 값을 확인하면 많은 실수를 잡을 수 있습니다. 책의 표는 0이 아니라 정규분포에서 뽑은 숫자로 시작하는데, "
        "그러면 아는 것도 없이 자신만만한 값이라서 손실이 1/2쯤 더 큽니다.",
        "Exactly. Looking at this number before training catches many a mistake. The book's table begins not with 0 but with "
        "numbers drawn from the normal distribution; such a table is sure of things it knows nothing about, and pays "
        "about 1/2 more.",
    )
    yield s.run(f"""
        from semigpt.models.loss import token_loss
        drawn = torch.randn(V, V, generator=torch.Generator().manual_seed({seed}))
        many_inputs, many_targets = dataset.batch("train", {BLOCK}, 128, seed={seed}, order="random")
        round(token_loss(drawn[many_inputs], many_targets).item(), 4), round(math.log(V) + 0.5, 4)
    """)


def last_position(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("마지막 자리의 확률", "The last position's probabilities")
    yield s.say(
        "글을 이어 쓸 때는 블록의 마지막 자리만 있으면 됩니다. 로짓에 소프트맥스를 씌우면 모두 더해 1이 되는 확률이 됩니다.",
        "To go on writing, only the last position of each block matters. Softmax turns its logits into probabilities that "
        "add up to 1.",
    )
    yield s.run("""
        last = logits[:, -1, :]
        last.shape
        probabilities = F.softmax(last, dim=-1)
        round(probabilities[0].sum().item(), 4)
        probabilities[0].min().item(), probabilities[0].max().item(), 1 / V
    """)
    yield s.say(
        "아직은 어느 글자나 확률이 1/V로 같습니다. 이제 그 확률대로 제비를 뽑습니다. 가장 큰 것만 고르지 않고 뽑기 때문에 매번 다른 글이 나올 "
        "수 있습니다.",
        "For now every character has the same 1/V. Next we draw lots by these probabilities. Because we draw, and do not "
        "always take the largest, the text can be different each time.",
    )
    yield s.run(f"""
        drawn_ids = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed({seed}))
        drawn_ids.shape
        tokenizer.decode(drawn_ids[:, 0])
    """)


def first_characters(s: Session, seed: int) -> Iterator[str]:
    yield s.heading("배우기 전의 열 글자", "Ten characters before learning")
    yield s.say(
        "뽑은 글자를 뒤에 붙이고 다시 뽑기를 되풀이하면 글이 됩니다. `generate`가 하는 일입니다. 글의 첫 글자를 주고 열 글자를 이어 써 보게 합시다.",
        "Put the drawn character behind the text, draw again, and so on: that is `generate`. We give it the text's first "
        "character and ask for ten more.",
    )
    yield s.run(f"""
        start = data[None, :1]
        before = tokenizer.decode(model.generate(start, 10, seed={seed})[0])
        before
    """)
    yield s.say(
        "아무 글자나 늘어놓았습니다. 아직 배운 것이 없으니 당연합니다.",
        "Characters at random, as is right for a model that has learnt nothing.",
    )


def optimizer(s: Session) -> Iterator[str]:
    yield s.heading("옵티마이저: 한 걸음", "The optimizer: one step")
    yield s.say(
        "학습은 세 가지를 되풀이합니다. 손실을 재고, 표의 숫자마다 어느 쪽으로 고쳐야 손실이 줄어드는지(기울기) 구하고, 그쪽으로 조금 움직입니다. "
        "움직이는 일을 맡은 것이 옵티마이저이고, 여기서는 책처럼 AdamW를 씁니다. 한 걸음이 너무 커지지 않도록 기울기의 크기도 재어 둡니다(clip_gradients). 딱 한 걸음만 가 "
        "봅시다.",
        "Training repeats three things: measure the loss; find for each number of the table which way lowers it (its "
        "gradient); move a little that way. The moving is the optimizer's work; like the book we use AdamW. The size of the "
        "gradient is looked at too, lest a step be too long (clip_gradients). Let us take one step.",
    )
    yield s.run("""
        from semigpt import Optimizer, OptimizerSettings
        one_step = OptimizerSettings(optimizer="adamw", learning_rate=0.05, schedule="constant", warmup=0.0)
        optimizer = Optimizer(model, one_step)
        _, loss = model(inputs, targets)
        loss.backward()
        round(optimizer.clip_gradients().item(), 4)
        rate = optimizer.step(0.0)
        model.zero_grad()
        _, after = model(inputs, targets)
        round(loss.item(), 4), round(after.item(), 4)
        int((model.embedding_token_table.weight != 0).any(dim=1).sum()), len(inputs.unique())
    """)
    yield s.say(
        f"같은 배치의 손실이 줄었습니다({s['loss'].item():.4f} → {s['after'].item():.4f}). 표에서 달라진 줄은 배치에 나온 서로 다른 글자 "
        f"{len(s['inputs'].unique())}개의 줄뿐입니다. 보지 않은 글자에 대해서는 아직 아무것도 배우지 못했습니다.",
        f"The loss of the same batch fell from {s['loss'].item():.4f} to {s['after'].item():.4f}. The only rows that changed "
        f"are those of the {len(s['inputs'].unique())} distinct characters of the batch: about others nothing was learnt yet.",
    )


def counts(s: Session) -> Iterator[str]:
    yield s.heading(
        "학습이 향하는 곳: 세어서 만든 표", "Where training is heading: the table of counts"
    )
    yield s.say(
        "이 모델만은 가장 좋은 표가 무엇인지 미리 알 수 있습니다. 앞 글자 하나만 본다면, 그 글자 뒤에 무엇이 몇 번 왔는지 세어 나눈 비율보다 나은 "
        "확률은 없습니다. 학습용 글을 한 번 훑어 세어 봅시다. `prior`는 한 번도 못 본 쌍의 확률이 0이 "
        "되지 않게 조금 나누어 주는 몫입니다. 이 글에서 가장 흔한 글자와, 그 뒤에 오는 글자를 많은 순서로 다섯 개까지 봅시다.",
        "Of this one model the best table is known beforehand. Seeing one character back, nobody can do better than to "
        "count what followed it, and how often. Let us count the training text once; `prior` is the little that "
        "is shared out so that no pair has probability 0. Here is the commonest character, and up to five that most often "
        "follow it.",
    )
    yield s.run(f"""
        counted = SemiGPT.from_counts(dataset, context_length={BLOCK}, prior=0.01)
        common = train_ids.bincount().argmax()
        tokenizer.decode([common])
        def likeliest(model):
            shares = model(common.view(1, 1).to(model.device))[0][0, -1].softmax(dim=0)
            return [(tokenizer.decode([i]), round(shares[i].item(), 4)) for i in shares.topk(min(5, V)).indices]
        likeliest(counted)
        likeliest(SemiGPT(counted.settings))
    """)
    yield s.say(
        "위는 센 표, 아래는 갓 만든 표입니다. 두 표가 얼마나 다른지는 숫자 하나로 잴 수 있습니다. 글에서 만나는 글자마다 다음 글자의 확률을 견주어, "
        "엉뚱한 곳에 가 있는 확률이 얼마인지 평균합니다. 0이면 똑같은 표, 1이면 겹치는 곳이 없는 표입니다.",
        "Above is the table of counts, below a fresh one. One number tells how far two tables are apart: at each character "
        "met in the text, how much of the probability lies in the wrong place, on average. 0 means the same table, 1 "
        "nothing in common.",
    )
    yield s.run("""
        @torch.no_grad()
        def distance(model):
            p, q = (each(many_inputs.to(each.device))[0].softmax(dim=-1).cpu() for each in (model, counted))
            return ((p - q).abs().sum(dim=-1) / 2).mean().item()
        round(distance(SemiGPT(counted.settings)), 4)
        round(distance(counted), 4)
    """)


def training_the_table(s: Session, training: str, seed: int) -> Iterator[str]:
    # A row of the table is touched seldom, and what Adam remembers of its gradients' size must last until then: on
    # nsmc 2,000 steps at a rate of 0.03 reach 3.72 nats of validation loss with 0.999 and 4.20 with 0.95.
    yield s.heading("학습, 그리고 처음 배운 글", "Training, and the first learnt text")
    yield s.say(
        "이제 한 걸음을 여러 번 되풀이합니다. 배치는 책처럼 블록 32개를 무작위로 뽑습니다.",
        "Now we repeat the one step many times, with 32 random blocks a batch, as in the book.",
    )
    yield s.run(f"""
        from semigpt import Progress, TrainingSettings, estimate_loss, training_steps
        settings = TrainingSettings({training}, batch_size=32, order="random", seed={seed})
        def measured(model, split):
            return estimate_loss(model, dataset.stream(split), context_length={BLOCK}, blocks=256).loss
        def trained(model, rates, look=()):
            optimizer = Optimizer(model, rates)
            for report in training_steps(model, dataset, optimizer, settings, Progress()):
                if report.step in look:
                    print(f"{{report.step}}: loss {{measured(model, 'train'):.4f}}, distance {{distance(model):.4f}}")
            return report.step
    """)
    yield s.say(
        f"걸음 수, 손실, 센 표까지의 거리를 가끔씩 적으며 학습합니다. {how_long(s)}만 기다려 주세요.",
        f"As it trains it writes down, now and then, the step, the loss and the distance to the counts. Please wait {how_long(s)}.",
    )
    yield s.run("""
        model = SemiGPT(counted.settings)
        round(measured(model, "train"), 4), round(distance(model), 4)
        rates = OptimizerSettings(optimizer="adamw", learning_rate=0.1, betas=(0.9, 0.999), weight_decay=0.0)
        steps = trained(model, rates, look=(1, 10, 30, 100, 300, 1000, 3000, 10000))
        steps, round(measured(model, "train"), 4), round(distance(model), 4)
        round(measured(counted, "train"), 4)
    """)
    yield s.say(
        "손실이 줄어드는 만큼 센 표까지의 거리도 줄어듭니다. 마지막 줄은 센 표의 손실로, 학습을 아무리 오래 해도 학습용 글 전체에서 이보다 "
        "나아질 수는 없습니다. 가장 흔한 글자 뒤에 올 글자를 보면 닮아 가는 것이 눈에 보입니다.",
        "As the loss falls so does the distance to the counts. The last line is the loss of the counts themselves: on the "
        "whole text it learns from, no training however long gets below it. What follows the commonest character shows the "
        "likeness.",
    )
    yield s.run(f"""
        likeliest(model)
        likeliest(counted)
        after = tokenizer.decode(model.generate(start, 10, seed={seed})[0])
        before, after
        tokenizer.decode(model.generate(start, 100, seed={seed})[0])
    """)
    yield s.say(
        "앞이 배우기 전, 뒤가 배운 다음의 열 글자입니다. 바로 앞 글자밖에 모르는 모델이라 뜻이 통하지는 않지만, 자주 붙어 다니는 글자와 띄어쓰기를 "
        "흉내 내기 시작합니다.",
        "The first are the ten characters before, the second those after learning. A model that knows one character back "
        "cannot make sense, but it begins to imitate which characters keep company, and where spaces go.",
    )


def how_long(s: Session) -> str:
    """The time or the steps that one training takes, in the session's language."""
    settings = s["settings"]
    if settings.steps is not None:
        return f"{settings.steps:,}걸음" if s.lang == "ko" else f"{settings.steps:,} steps"
    seconds = f"{60 * settings.minutes:.3g}"
    return f"{seconds}초" if s.lang == "ko" else f"{seconds} seconds"


def device(s: Session) -> Iterator[str]:
    yield s.heading("장치로 옮기기", "Moving to a device")
    yield s.say(
        "모델이 커지면 계산을 GPU에 맡깁니다. 모델과 데이터가 같은 장치에 있어야 하므로 둘 다 옮깁니다. `pick_device`는 이 컴퓨터에서 가장 빠른 "
        "장치를 고릅니다.",
        "Larger models compute on a GPU. Model and data must be on the same device, so both are moved. `pick_device` "
        "takes the fastest one this machine has.",
    )
    yield s.run("""
        from semigpt.device import pick_device
        device = pick_device("auto")
        device
        model = model.to(device)
        model.device, inputs.device, inputs.to(device).device
        _, loss = model(inputs.to(device), targets.to(device))
        round(loss.item(), 4)
    """)
    if s["device"].type == "cpu":
        yield s.say(
            "이 컴퓨터에서는 CPU가 골라졌습니다. 옮기는 코드는 GPU가 있을 때와 똑같고, 지금부터 나오는 작은 모델에는 CPU로도 넉넉합니다.",
            "Here it is the CPU. The code is the same with a GPU, and for the small models ahead a CPU is plenty.",
        )
    else:
        yield s.say(
            f"이 컴퓨터에서는 {s['device'].type} 장치가 골라졌습니다. 지금부터 학습은 모두 이 장치에서 합니다.",
            f"Here it is {s['device'].type}. From now on all training happens there.",
        )


def both_losses(s: Session) -> Iterator[str]:
    yield s.heading("두 가지 손실", "The loss on both splits")
    yield s.say(
        "배치 하나의 손실은 우연히 높거나 낮습니다. 그래서 학습용과 검증용에서 늘 같은 블록들을 골라 평균을 내고, 그 평균이 얼마나 흔들리는지"
        "(표준 오차)도 함께 적습니다.",
        "The loss of one batch is high or low by chance. So we average over blocks of both splits, always the same "
        "ones, and write beside the average how uncertain it is (its standard error).",
    )
    yield s.run(f"""
        losses = {{}}
        for split in ("train", "validation"):
            estimate = estimate_loss(model, dataset.stream(split), context_length={BLOCK}, blocks=256)
            losses[split] = estimate.loss
            print(split, round(estimate.loss, 4), "±", round(estimate.standard_error, 4))
        from semigpt.evaluation.information import bits
        round(bits(losses["validation"]), 3), round(math.log2(V), 3)
    """)
    gap = s["losses"]["validation"] - s["losses"]["train"]
    yield s.say(
        f"검증용 손실에서 학습용 손실을 빼면 {gap:+.4f}입니다. 이 차이가 점점 벌어지면 배우는 것이 아니라 외우고 있다는 신호입니다. 마지막 줄은 검증용 "
        "손실을 비트로 바꾼 것으로, 글자 하나를 적는 데 드는 비트 수입니다. 옆의 숫자는 아무것도 모를 때 드는 비트 수, 곧 log2 V입니다.",
        f"The validation loss less the training loss is {gap:+.4f}. When this grows, a model is memorising rather than "
        "learning. The last line is the validation loss in bits: what it costs to write down one character. Beside it is "
        "what it costs when one knows nothing, log2 V.",
    )
