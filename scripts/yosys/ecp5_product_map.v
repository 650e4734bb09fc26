// `cell_product` in a MULT18X18D with its own registers: of both operands, and of the product. A's
// is there once more, for the next cell, since nothing comes out of the multiplier's.
module cell_product (clk, a_i, w_i, load, a_o, product);
  input clk, load;
  input signed [7:0] a_i, w_i;
  output reg signed [7:0] a_o;
  output signed [15:0] product;
  always @(posedge clk) a_o <= a_i;
  MULT18X18D #(
    .REG_INPUTA_CLK("CLK0"), .REG_INPUTA_CE("CE0"), .REG_INPUTA_RST("RST0"),
    .REG_INPUTB_CLK("CLK0"), .REG_INPUTB_CE("CE1"), .REG_INPUTB_RST("RST0"),
    .REG_OUTPUT_CLK("CLK0"), .REG_OUTPUT_CE("CE0"), .REG_OUTPUT_RST("RST0")
  ) multiplier (
    .A0(a_i[0]), .A1(a_i[1]), .A2(a_i[2]), .A3(a_i[3]), .A4(a_i[4]), .A5(a_i[5]), .A6(a_i[6]),
    .A7(a_i[7]), .A8(a_i[7]), .A9(a_i[7]), .A10(a_i[7]), .A11(a_i[7]), .A12(a_i[7]),
    .A13(a_i[7]), .A14(a_i[7]), .A15(a_i[7]), .A16(a_i[7]), .A17(a_i[7]),
    .B0(w_i[0]), .B1(w_i[1]), .B2(w_i[2]), .B3(w_i[3]), .B4(w_i[4]), .B5(w_i[5]), .B6(w_i[6]),
    .B7(w_i[7]), .B8(w_i[7]), .B9(w_i[7]), .B10(w_i[7]), .B11(w_i[7]), .B12(w_i[7]),
    .B13(w_i[7]), .B14(w_i[7]), .B15(w_i[7]), .B16(w_i[7]), .B17(w_i[7]),
    .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
    .CLK0(clk), .CE0(1'b1), .CE1(load), .RST0(1'b0),
    .P0(product[0]), .P1(product[1]), .P2(product[2]), .P3(product[3]), .P4(product[4]),
    .P5(product[5]), .P6(product[6]), .P7(product[7]), .P8(product[8]), .P9(product[9]),
    .P10(product[10]), .P11(product[11]), .P12(product[12]), .P13(product[13]),
    .P14(product[14]), .P15(product[15])
  );
endmodule
