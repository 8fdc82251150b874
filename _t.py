import asyncio,time,tempfile,pathlib
from tests.faults import scenarios; scenarios.register()
from tests.faults.matrix import SCENARIOS, Run, Result
class R(Run):
    def rounds(self, full, quick): return 24 if full==100 else quick
async def main(d,r):
    try:
        async with asyncio.timeout(520): await SCENARIOS["8 processes migrate at once, one killed half-way"].body(R(pathlib.Path(d),True),r)
    except TimeoutError: print("timed out")
t=time.time()
with tempfile.TemporaryDirectory() as d:
    r=Result(); asyncio.run(main(d,r))
print(r,time.time()-t)
