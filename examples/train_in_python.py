"""Everything the command line does, from Python: `python examples/train_in_python.py [SPEC] [STEPS]`."""

import sys
from pathlib import Path

import torch

import semigpt

spec = sys.argv[1] if len(sys.argv) > 1 else "news"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300

# Text → tokens → blocks. All of it is kept in a cache, and found there the next time.
corpus = semigpt.prepare_corpus(spec)
tokenizer = semigpt.CharTokenizer.from_counts(corpus.character_counts)
dataset = semigpt.prepare_dataset(corpus, tokenizer)

torch.manual_seed(0)
model = semigpt.GPT(
    semigpt.GPTSettings(
        vocab_size=len(tokenizer), context_length=64, width=128, num_layers=2, num_heads=4
    )
)
optimizer = semigpt.Optimizer(model, semigpt.OptimizerSettings())
settings = semigpt.TrainingSettings(steps=steps, batch_size=32)

# Training is a loop of yours: log, measure, sample or stop between two steps as you like.
for report in semigpt.training_steps(model, dataset, optimizer, settings, semigpt.Progress()):
    if report.step % 50 == 0 or report.step == steps:
        print(f"step {report.step}: loss {report.loss:.3f} nats")

result = semigpt.evaluate(model, tokenizer, corpus, "test", counted_on=corpus, xz=False)
bigram = result.baselines.bigram
print(f"{result.information.bits_per_character:.3f} bits a character; {bigram:.3f} by letter pairs")
print("정부는" + semigpt.generate_text(model, tokenizer, "정부는", max_new_tokens=100, seed=0)[0])

folder = Path("model-from-python")
semigpt.save_model(
    folder, model, tokenizer, "# A model of Korean text, trained from Python with semigpt\n"
)
print(f"saved in {folder}; AutoModelForCausalLM.from_pretrained loads it")
