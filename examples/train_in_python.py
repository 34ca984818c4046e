"""What the command line does, from Python: `python examples/train_in_python.py [SPEC] [STEPS]`."""

import sys
from pathlib import Path

import torch

import semigpt

spec = sys.argv[1] if len(sys.argv) > 1 else "news"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300

# Text → tokens → blocks. All of it is kept in a cache, and read from there the next time.
corpus = semigpt.prepare_corpus(spec)
tokenizer = semigpt.CharTokenizer.from_counts(corpus.character_counts)
dataset = semigpt.prepare_dataset(corpus, tokenizer)

torch.manual_seed(0)
shape = {"context_length": 64, "width": 128, "num_layers": 2, "num_heads": 4}
model = semigpt.GPT(semigpt.GPTSettings(vocab_size=len(tokenizer), **shape))
optimizer = semigpt.Optimizer(model, semigpt.OptimizerSettings())
settings = semigpt.TrainingSettings(steps=steps, batch_size=32)

# Training is your own loop: log, measure, sample or stop between two steps as you like.
# What `show_progress` shows is a line now and then, and in a notebook a bar and a curve.
training = semigpt.training_steps(model, dataset, optimizer, settings, semigpt.Progress())
for report in semigpt.show_progress(training):
    last = report.loss
print(f"step {report.step}: loss {last:.3f} nats")

result = semigpt.evaluate(model, tokenizer, corpus, "test", counted_on=corpus, xz=False)
bits = result.information.bits_per_character
print(f"{bits:.3f} bits per character; a bigram of counts {result.baselines.bigram:.3f}")
print("정부는" + semigpt.generate_text(model, tokenizer, "정부는", max_new_tokens=100, seed=0)[0])

folder = Path("model-from-python")
card = "# A model of Korean text, trained from Python with semigpt\n"
semigpt.save_model(folder, model, tokenizer, card)
print(f"saved in {folder}; AutoModelForCausalLM.from_pretrained loads it")
