import { expect, test } from "vitest";
import { accountIn, splitAddresses } from "../../src/ui/addresses";

const ID = "a030c228-bdd4-5d6c-a1c6-7481e579fe8f";

test("an address is an id, or a link that ends with one", () => {
  for (const address of [ID, ` ${ID.toUpperCase()} `, `https://signet.example/#${ID}`, `http://127.0.0.1:8700/#${ID}/`]) {
    expect(accountIn(address)).toBe(ID);
  }
  for (const address of ["", "ben", `${ID}0`, `x${ID}`, `#/c/${ID} and more`, ID.slice(1)]) expect(accountIn(address)).toBeUndefined();
});

test("several are pasted in any way", () => {
  expect(splitAddresses(` ${ID},x;\n\ty `)).toEqual([ID, "x", "y"]);
});
