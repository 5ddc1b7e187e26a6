FORMATS = {"bf16": "bfloat16", "fp16": "float16"}
def unsupported(pass_, sizes, gen, size): return None
