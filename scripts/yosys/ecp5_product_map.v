// `cell_product` in a MULT18X18D with its own registers: of both operands, and of the product. A's
// is there once more, for the next cell, since nothing comes out of the multiplier's.
//
// Operands are in the upper bits, above constant ones, and so is the product: with their signs
// extended they would take ten more wires each into a row of multipliers that is full of them.
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
    .A0(1'b0), .A1(1'b0), .A2(1'b0), .A3(1'b0), .A4(1'b0), .A5(1'b0), .A6(1'b0), .A7(1'b0),
    .A8(1'b0), .A9(1'b0), .A10(a_i[0]), .A11(a_i[1]), .A12(a_i[2]), .A13(a_i[3]), .A14(a_i[4]),
    .A15(a_i[5]), .A16(a_i[6]), .A17(a_i[7]),
    .B0(1'b0), .B1(1'b0), .B2(1'b0), .B3(1'b0), .B4(1'b0), .B5(1'b0), .B6(1'b0), .B7(1'b0),
    .B8(1'b0), .B9(1'b0), .B10(w_i[0]), .B11(w_i[1]), .B12(w_i[2]), .B13(w_i[3]), .B14(w_i[4]),
    .B15(w_i[5]), .B16(w_i[6]), .B17(w_i[7]),
    .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
    .CLK0(clk), .CE0(1'b1), .CE1(load), .RST0(1'b0),
    .P20(product[0]), .P21(product[1]), .P22(product[2]), .P23(product[3]), .P24(product[4]),
    .P25(product[5]), .P26(product[6]), .P27(product[7]), .P28(product[8]), .P29(product[9]),
    .P30(product[10]), .P31(product[11]), .P32(product[12]), .P33(product[13]), .P34(product[14]),
    .P35(product[15])
  );
endmodule
